//! The sample data: a shop with five related tables, the same in every run.

use std::path::Path;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rusqlite::{Connection, Transaction, params};
use tideway_core::{Error, Result};

const TABLES: &str = "
create table customers (
    id integer primary key, email text not null, full_name text, country text,
    vip boolean not null, created_at timestamp not null, updated_at timestamp not null);
create table addresses (
    id integer primary key, customer_id integer not null references customers (id),
    street text, city text, postcode text, updated_at timestamp not null);
create table products (
    id integer primary key, sku text not null, title text not null,
    price decimal(10,2) not null, attributes json, updated_at timestamp not null);
create table orders (
    id integer primary key, customer_id integer not null references customers (id),
    status text not null, ordered_on date not null, note text, updated_at timestamp not null);
create table order_items (
    order_id integer not null references orders (id), line integer not null,
    product_id integer not null references products (id), quantity integer not null,
    unit_price decimal(10,2) not null, updated_at timestamp not null,
    primary key (order_id, line));";

const FIRST: [&str; 12] = [
    "Ada", "Björn", "Chloé", "Daniel", "Émile", "Farah", "Göran", "Hana", "Ines", "Jürgen",
    "Kwame", "Léa",
];
const LAST: [&str; 10] = [
    "Okafor", "Müller", "O'Brien", "Ito", "García", "Novák", "Smith", "Żak", "Dubois", "Larsen",
];
const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "JP", "NG", "BR", "PL", "SE"];
const STATUSES: [&str; 4] = ["new", "paid", "shipped", "returned"];

fn failed(error: rusqlite::Error) -> Error {
    Error::unavailable(format!("the sample database: {error}"))
}

/// Makes the database with about `rows` rows and tells how many there are.
pub fn create(path: &Path, rows: usize) -> Result<u64> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let mut connection = Connection::open(path).map_err(failed)?;
    let transaction = connection.transaction().map_err(failed)?;
    transaction.execute_batch(TABLES).map_err(failed)?;
    let written = fill(&transaction, rows.max(100)).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(written)
}

fn fill(shop: &Transaction<'_>, rows: usize) -> rusqlite::Result<u64> {
    let mut random = StdRng::seed_from_u64(20);
    let (customers, products, orders) = (rows * 8 / 100, rows * 2 / 100, rows * 25 / 100);
    let mut written = customers + products + orders;
    for id in 1..=customers {
        customer(shop, id, &mut random)?;
    }
    for id in 1..=rows / 10 {
        let customer_id = random.random_range(1..=customers);
        let street = format!(
            "{} {} Street",
            random.random_range(1..200),
            pick(&LAST, &mut random)
        );
        let postcode = format!("{:05}", random.random_range(0..100_000));
        shop.prepare_cached("insert into addresses values (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                id as i64,
                customer_id as i64,
                street,
                pick(&FIRST, &mut random),
                postcode,
                moment(id)
            ])?;
        written += 1;
    }
    for id in 1..=products {
        let price = format!(
            "{}.{:02}",
            random.random_range(1..500),
            random.random_range(0..100)
        );
        let attributes = format!(
            r#"{{"color":"{}","grams":{}}}"#,
            id % 7,
            random.random_range(1..5000)
        );
        shop.prepare_cached("insert into products values (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                id as i64,
                format!("SKU-{id:06}"),
                format!("Product {id}"),
                price,
                attributes,
                moment(id)
            ])?;
    }
    let mut items = rows.saturating_sub(written);
    for id in 1..=orders {
        order(shop, id, random.random_range(1..=customers), &mut random)?;
        let lines = items.div_ceil(orders - id + 1);
        for line in 1..=lines {
            item(
                shop,
                id,
                line,
                random.random_range(1..=products),
                &mut random,
            )?;
        }
        items -= lines;
        written += lines;
    }
    Ok(written as u64)
}

fn pick<'a>(words: &[&'a str], random: &mut StdRng) -> &'a str {
    words.choose(random).copied().unwrap_or_default()
}

/// A time of the year 2026, later for higher ids.
fn moment(id: usize) -> String {
    let minute = id % (360 * 24 * 60);
    let day = minute / 1440;
    format!(
        "2026-{:02}-{:02} {:02}:{:02}:00",
        day / 30 + 1,
        (day % 30).min(27) + 1,
        minute / 60 % 24,
        minute % 60
    )
}

fn customer(shop: &Transaction<'_>, id: usize, random: &mut StdRng) -> rusqlite::Result<()> {
    let name = format!("{} {}", pick(&FIRST, random), pick(&LAST, random));
    let (country, vip) = (pick(&COUNTRIES, random), random.random_bool(0.1));
    shop.prepare_cached("insert into customers values (?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            id as i64,
            format!("customer{id}@example.com"),
            name,
            country,
            vip,
            moment(id),
            moment(id)
        ])
        .map(drop)
}

fn order(
    shop: &Transaction<'_>,
    id: usize,
    customer: usize,
    random: &mut StdRng,
) -> rusqlite::Result<()> {
    let note = random
        .random_bool(0.2)
        .then(|| format!("leave at the door, \"{}\"", id % 100));
    let day = &moment(id)[..10];
    shop.prepare_cached("insert into orders values (?, ?, ?, ?, ?, ?)")?
        .execute(params![
            id as i64,
            customer as i64,
            pick(&STATUSES, random),
            day,
            note,
            moment(id)
        ])
        .map(drop)
}

fn item(
    shop: &Transaction<'_>,
    order: usize,
    line: usize,
    product: usize,
    random: &mut StdRng,
) -> rusqlite::Result<()> {
    let price = format!(
        "{}.{:02}",
        random.random_range(1..500),
        random.random_range(0..100)
    );
    shop.prepare_cached("insert into order_items values (?, ?, ?, ?, ?, ?)")?
        .execute(params![
            order as i64,
            line as i64,
            product as i64,
            random.random_range(1..6),
            price,
            moment(order)
        ])
        .map(drop)
}

/// A day of business: new customers and orders, changed rows, deleted ones. Says what.
pub fn change(path: &Path) -> Result<String> {
    let mut connection = Connection::open(path).map_err(failed)?;
    let transaction = connection.transaction().map_err(failed)?;
    let told = trade(&transaction).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(told)
}

fn trade(shop: &Transaction<'_>) -> rusqlite::Result<String> {
    let mut random = StdRng::seed_from_u64(21);
    let top = |table: &str| -> rusqlite::Result<usize> {
        let id: i64 = shop.query_row(&format!("select max(id) from {table}"), [], |row| {
            row.get(0)
        })?;
        Ok(usize::try_from(id).unwrap_or_default())
    };
    let (customers, orders, products) = (top("customers")?, top("orders")?, top("products")?);
    for id in customers + 1..=customers + 25 {
        customer(shop, id, &mut random)?;
    }
    for id in orders + 1..=orders + 60 {
        order(shop, id, random.random_range(1..=customers), &mut random)?;
        item(shop, id, 1, random.random_range(1..=products), &mut random)?;
    }
    let now = "2026-12-01 12:00:00";
    let updated = shop.execute(
        "update orders set status = 'shipped', updated_at = ?1 where status = 'paid' and id % 50 = 0",
        [now],
    )? + shop.execute(
        "update products set price = '9.99', updated_at = ?1 where id % 40 = 0 and price <> '9.99'",
        [now],
    )?;
    let deleted = shop.execute("delete from order_items where order_id % 500 = 7", [])?
        + shop.execute("delete from addresses where id % 250 = 3", [])?;
    Ok(format!(
        "{} rows added, {updated} changed, {deleted} deleted",
        25 + 60 + 60
    ))
}
