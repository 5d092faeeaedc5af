//! Decodes what a server has sent, again and again, on one core: `bench/decoding.py` records it.
//!
//!     decoding pgoutput|copy FILE ROUNDS
//!
//! Prints the rows of one round and its seconds of processor time, the best of all rounds.

use std::{env, fs, io::Write as _, process::ExitCode, time::Instant};

use tideway_postgres::decoders;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, file, rounds] = arguments.as_slice() else {
        eprintln!("decoding pgoutput|copy FILE ROUNDS");
        return ExitCode::FAILURE;
    };
    let decode = match what.as_str() {
        "pgoutput" => decoders::pgoutput,
        "copy" => decoders::copy,
        other => {
            eprintln!("{other} is neither pgoutput nor copy");
            return ExitCode::FAILURE;
        }
    };
    let bytes = fs::read(file).expect("the file is there");
    let mut best = f64::MAX;
    let mut rows = 0;
    for _ in 0..rounds.parse().expect("a number of rounds") {
        let begin = Instant::now();
        rows = decode(&bytes).expect("the server's own bytes are in order");
        best = best.min(begin.elapsed().as_secs_f64());
    }
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{rows} {best}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
