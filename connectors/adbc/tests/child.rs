//! Another process: a user with a program of their own on the file, or a worker that is
//! going to be killed. Both are this test binary, started again.

#![allow(clippy::print_stdout, reason = "the parent process reads it")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use adbc_core::{
    Connection as _, Database as _, Driver as _, Statement as _,
    options::{AdbcVersion, OptionDatabase},
};
use adbc_driver_manager::ManagedDriver;
use arrow_cast::display::{ArrayFormatter, FormatOptions};

const TASK: &str = "TIDEWAY_ADBC_TEST_TASK";

/// Starts a process that does `task`; its arguments arrive there as they are.
pub fn spawn(task: &str, arguments: &[&str]) -> Child {
    let task = serde_json::json!([task, arguments]).to_string();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::what_a_child_process_does", "--nocapture"])
        .env(TASK, task)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs statements as another program would, and gives the rows of all of them as text.
/// Waits for the file to be free.
pub fn sql(path: &Path, statements: &[&str]) -> Vec<Vec<String>> {
    let path = path.to_str().unwrap();
    let arguments: Vec<&str> = std::iter::once(path)
        .chain(statements.iter().copied())
        .collect();
    let output = spawn("sql", &arguments).wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "a statement failed in the child process"
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    printed
        .lines()
        .filter_map(|line| line.split_once("ROW "))
        .map(|(_, row)| serde_json::from_str(row).unwrap())
        .collect()
}

/// Not a test by itself: the body of the processes that tests start.
#[test]
fn what_a_child_process_does() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let (task, arguments): (String, Vec<String>) = serde_json::from_str(&task).unwrap();
    match task.as_str() {
        "sql" => run_sql(&arguments[0], &arguments[1..]),
        "hold" => hold(&arguments[0]),
        "load" => crate::crash::load_for_ever(&arguments),
        other => panic!("no task {other}"),
    }
}

fn run_sql(path: &str, statements: &[String]) {
    let database = database(path);
    let mut connection = database.new_connection().unwrap();
    for sql in statements {
        let mut statement = connection.new_statement().unwrap();
        statement
            .set_sql_query(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        for batch in statement
            .execute()
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
        {
            let batch = batch.unwrap();
            let options = FormatOptions::default().with_null("NULL");
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
                println!("\nROW {}", serde_json::to_string(&cells).unwrap());
            }
        }
    }
}

/// Opens the file, says so, and keeps it until standard input ends.
fn hold(path: &str) {
    let database = database(path);
    println!("\nHELD");
    let _ = std::io::read_to_string(std::io::stdin());
    drop(database);
}

fn database(path: &str) -> adbc_driver_manager::ManagedDatabase {
    let library = std::env::var("TIDEWAY_DUCKDB_LIBRARY").unwrap();
    let mut driver = ManagedDriver::load_dynamic_from_filename(
        library,
        Some(b"duckdb_adbc_init"),
        AdbcVersion::V110,
    )
    .unwrap();
    for _ in 0..200 {
        let options = [(OptionDatabase::Other("path".into()), path.into())];
        match driver.new_database_with_opts(options) {
            Ok(database) => return database,
            Err(error) if error.message.contains("lock") => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{path} stays locked");
}
