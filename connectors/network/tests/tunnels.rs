//! SSH tunnels through a server of the tests' own.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tideway_core::{Kind, outbound::Outbound};
use tideway_network::{Dialler, Names};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    net::TcpListener,
};

use crate::rig::*;

fn through(settings: tideway_network::SshSettings) -> Dialler {
    Dialler::new(WORDS, Outbound::default(), Some(settings)).unwrap()
}

#[tokio::test]
async fn a_key_that_was_changed_after_the_first_use_is_refused() {
    let (echo, server) = (echo().await, SshServer::start(0).await);
    let settings = server.settings();
    let dialler = through(settings.clone());
    dialler.dial("127.0.0.1", echo).await.unwrap();
    dialler.dial("127.0.0.1", echo).await.unwrap();
    let port = server.stop().await;
    let other = SshServer::start(port).await;
    // Neither for who was there before, nor for who comes anew.
    for dialler in [dialler, through(settings)] {
        let error = dialler.dial("127.0.0.1", echo).await.err().unwrap();
        assert_eq!(error.kind, Kind::Config, "{error}");
        assert_eq!(error.blamed_field(), Some("ssh_host_key"));
        assert!(error.to_string().contains("another key"), "{error}");
    }
    assert_eq!(other.signed_in.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lanes_at_once_carry_their_own_bytes() {
    const LANES: usize = 40;
    const BYTES: usize = 1 << 20;
    let (echo, server) = (echo().await, SshServer::start(0).await);
    let dialler = through(server.settings());
    // Stands still with its window full, and holds up none of the others.
    let mut still = dialler.dial("127.0.0.1", echo).await.unwrap();
    let filling = tokio::spawn(async move {
        let full = vec![0; 64 << 20];
        let _ = still.write_all(&full).await;
    });
    let lanes = (0..LANES).map(|lane| {
        let dialler = dialler.clone();
        tokio::spawn(async move {
            let stream = dialler.dial("127.0.0.1", echo).await.unwrap();
            let sent: Vec<u8> = (0..BYTES).map(|at| (at * 31 + lane * 7) as u8).collect();
            let (mut from, mut to) = split(stream);
            let mut got = vec![0; BYTES];
            let (wrote, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut got));
            wrote.unwrap();
            read.unwrap();
            assert!(sent == got, "lane {lane} got other bytes");
        })
    });
    for lane in join_all(lanes).await {
        lane.unwrap();
    }
    assert!(!filling.is_finished());
    filling.abort();
    assert_eq!(server.signed_in.load(Ordering::SeqCst), LANES + 1);
    let most = server.most_at_once.load(Ordering::SeqCst);
    assert!((2..=5).contains(&most), "{most} signed in at the same time");
}

#[tokio::test]
async fn the_wait_for_a_turn_has_an_end() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    // Looking it up takes its time as well, so that those before are slower than the queue is
    // patient.
    let answers = Answers::new(&[&["127.0.0.1"]]).after(Duration::from_secs(5));
    let names = Names::new(Outbound::default(), answers);
    let settings = tideway_network::SshSettings {
        host: Some("silent.example.com".to_owned()),
        ..settings(port)
    };
    let dialler = Dialler::new(WORDS, names, Some(settings)).unwrap();
    let before: Vec<_> = (0..5)
        .map(|_| {
            let dialler = dialler.clone();
            tokio::spawn(async move { dialler.dial("db", 5432).await.err().unwrap() })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    let error = dialler.dial("db", 5432).await.err().unwrap();
    assert!(began.elapsed() < Duration::from_secs(12), "{began:?}");
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    assert_eq!(error.blamed_field(), Some("ssh_host"));
    assert!(error.to_string().contains("5 others"), "{error}");
    assert!(before.iter().all(|dialling| !dialling.is_finished()));
    for dialling in before {
        assert_eq!(dialling.await.unwrap().kind, Kind::Timeout);
    }
}
