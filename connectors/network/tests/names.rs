//! Names with several addresses, and names that are answered otherwise a moment later.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tideway_core::outbound::Outbound;
use tideway_network::{
    Dialler, Names,
    http::{self, Redirects},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::rig::*;

/// The machine itself, of which this address alone may be connected to.
fn only(address: &str) -> Outbound {
    Outbound {
        public_only: true,
        allowed: vec![ip(address).into()],
    }
}

/// A socket that nobody is let in at: its queue is full, and what comes is not answered.
async fn dead(address: &str, port: u16) -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = std::net::SocketAddr::from((ip(address), port));
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    (socket, queued)
}

async fn reached(listener: &TcpListener) {
    let came = timeout(Duration::from_secs(2), listener.accept()).await;
    came.expect("somebody else was dialled").unwrap();
}

#[tokio::test]
async fn the_next_address_is_tried_while_the_first_says_nothing() {
    let alive = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = alive.local_addr().unwrap().port();
    let _dead = dead("127.0.0.1", port).await;
    let answers = Answers::new(&[&["127.0.0.1", "127.0.0.2"]]);
    let names = Names::new(Outbound::default(), answers.clone());
    let dialler = Dialler::new(WORDS, names, None).unwrap();
    let began = Instant::now();
    dialler.dial("db.example.com", port).await.unwrap();
    // Half of the ten seconds that all addresses have together, and what a busy machine takes.
    assert!(began.elapsed() < Duration::from_secs(8), "{began:?}");
    reached(&alive).await;
    assert_eq!(answers.asked(), 1);
}

#[tokio::test]
async fn addresses_that_say_nothing_are_given_up_in_time() {
    let spare = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = spare.local_addr().unwrap().port();
    drop(spare);
    let _dead = (dead("127.0.0.3", port).await, dead("127.0.0.4", port).await);
    let answers = Answers::new(&[&["127.0.0.3", "127.0.0.4"]]);
    let names = Names::new(Outbound::default(), answers);
    let dialler = Dialler::new(WORDS, names, None).unwrap();
    let began = Instant::now();
    let error = dialler.dial("db.example.com", port).await.err().unwrap();
    assert!(began.elapsed() < Duration::from_secs(13), "{began:?}");
    assert_eq!(error.blamed_field(), Some("host"));
    assert!(
        error.to_string().contains("did not answer in time"),
        "{error}"
    );
}

#[tokio::test]
async fn the_address_that_was_judged_is_the_one_that_is_dialled() {
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = open.local_addr().unwrap().port();
    let closed = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let answers = Answers::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let names = Names::new(only("127.0.0.1"), answers.clone());
    let dialler = Dialler::new(WORDS, names, None).unwrap();
    dialler.dial("db.example.com", port).await.unwrap();
    reached(&open).await;
    assert_eq!(answers.asked(), 1);
    // The name has moved to where nobody may be led.
    let error = dialler.dial("db.example.com", port).await.err().unwrap();
    assert!(error.to_string().contains("no public address"), "{error}");
    let none = timeout(Duration::from_millis(200), closed.accept()).await;
    assert!(none.is_err(), "it was dialled all the same");
}

#[tokio::test]
async fn what_may_be_dialled_of_a_name_is_and_what_may_not_is_left_out() {
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = open.local_addr().unwrap().port();
    let closed = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let answers = Answers::new(&[&["127.0.0.2", "169.254.169.254", "127.0.0.1"]]);
    let dialler = Dialler::new(WORDS, Names::new(only("127.0.0.1"), answers), None).unwrap();
    dialler.dial("db.example.com", port).await.unwrap();
    reached(&open).await;
    let none = timeout(Duration::from_millis(200), closed.accept()).await;
    assert!(none.is_err(), "it was dialled all the same");
}

#[tokio::test]
async fn http_asks_the_address_that_was_judged() {
    let (port, open) = web("127.0.0.1", 0).await;
    let (_, closed) = web("127.0.0.2", port).await;
    let answers = Answers::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let client = http::client(
        Names::new(only("127.0.0.1"), answers.clone()),
        Redirects::Follow,
        Duration::from_secs(5),
        reqwest::Client::builder(),
    )
    .unwrap();
    let get = || client.get(format!("http://web.example.com:{port}/")).send();
    assert_eq!(get().await.unwrap().text().await.unwrap(), "ok");
    assert_eq!((answers.asked(), open.load(Ordering::SeqCst)), (1, 1));
    // For a new connection the name is looked up anew, and judged anew.
    let error = get().await.unwrap_err();
    let refusal = http::refusal(&error, "web.example.com").unwrap();
    assert!(
        refusal.to_string().contains("no public address"),
        "{refusal}"
    );
    assert_eq!(
        closed.load(Ordering::SeqCst),
        0,
        "it was asked all the same"
    );
}
