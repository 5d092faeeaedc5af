use tideway_core::Kind;
use uuid::Uuid;

use super::{Site, both, count, kind, tamper};
use crate::{Begun, Request, Store, StoredResponse, Ticket};

both![
    the_first_answer_is_given_again,
    a_second_request_in_flight_is_told_to_wait,
    a_key_with_another_request_is_refused,
    a_key_belongs_to_its_organization,
    of_racing_requests_one_is_fresh,
    an_abandoned_request_can_be_sent_again,
    a_request_whose_process_died_is_taken_over_and_the_ghost_cannot_answer,
];

fn request() -> Request {
    Request {
        method: "POST".into(),
        path: "/api/connections".into(),
        fingerprint: "f".into(),
    }
}

fn answer(text: &str) -> StoredResponse {
    let headers = vec![("x-request-id".to_owned(), "1".to_owned())];
    StoredResponse {
        status: 201,
        headers,
        body: text.as_bytes().to_vec(),
    }
}

async fn fresh(store: &Store, scope: Uuid, key: &str) -> Ticket {
    match store
        .idempotency()
        .begin(scope, key, &request())
        .await
        .unwrap()
    {
        Begun::Fresh(ticket) => ticket,
        Begun::Replay(_) => panic!("it was answered before"),
    }
}

pub(super) async fn answered(store: &Store, scope: Uuid, key: &str) {
    let ticket = fresh(store, scope, key).await;
    store
        .idempotency()
        .finish(&ticket, &answer("done"))
        .await
        .unwrap();
}

async fn the_first_answer_is_given_again(site: &Site) {
    let store = site.open().await;
    let scope = Uuid::now_v7();
    let first = StoredResponse {
        body: vec![0, 159, 146, 150],
        ..answer("")
    };
    let ticket = fresh(&store, scope, "key-0001").await;
    store.idempotency().finish(&ticket, &first).await.unwrap();
    store
        .idempotency()
        .finish(&ticket, &answer("another"))
        .await
        .unwrap();
    let other = site.open().await;
    for store in [&store, &other] {
        let again = store
            .idempotency()
            .begin(scope, "key-0001", &request())
            .await
            .unwrap();
        assert_eq!(again, Begun::Replay(first.clone()));
    }
}

async fn a_second_request_in_flight_is_told_to_wait(site: &Site) {
    let store = site.open().await;
    fresh(&store, Uuid::nil(), "key-0001").await;
    let second = store
        .idempotency()
        .begin(Uuid::nil(), "key-0001", &request())
        .await;
    assert_eq!(kind(second), Kind::Conflict);
}

async fn a_key_with_another_request_is_refused(site: &Site) {
    let store = site.open().await;
    answered(&store, Uuid::nil(), "key-0001").await;
    for other in [
        Request {
            method: "PUT".into(),
            ..request()
        },
        Request {
            path: "/api/bulk/syncs".into(),
            ..request()
        },
        Request {
            fingerprint: "g".into(),
            ..request()
        },
    ] {
        let refused = store
            .idempotency()
            .begin(Uuid::nil(), "key-0001", &other)
            .await;
        let error = refused.unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Config, Some("Idempotency-Key"))
        );
    }
}

async fn a_key_belongs_to_its_organization(site: &Site) {
    let store = site.open().await;
    answered(&store, Uuid::now_v7(), "key-0001").await;
    fresh(&store, Uuid::now_v7(), "key-0001").await;
}

async fn of_racing_requests_one_is_fresh(site: &Site) {
    let stores = [site.open().await, site.open().await];
    let tries = (0..10).map(|n| {
        let store = stores[n % 2].clone();
        tokio::spawn(async move {
            store
                .idempotency()
                .begin(Uuid::nil(), "key-0001", &request())
                .await
        })
    });
    let mut fresh = 0;
    for outcome in tries.collect::<Vec<_>>() {
        match outcome.await.unwrap() {
            Ok(begun) => {
                assert!(matches!(begun, Begun::Fresh(_)));
                fresh += 1;
            }
            Err(error) => assert_eq!(error.kind, Kind::Conflict, "{error:?}"),
        }
    }
    assert_eq!(fresh, 1);
}

async fn an_abandoned_request_can_be_sent_again(site: &Site) {
    let store = site.open().await;
    let ticket = fresh(&store, Uuid::nil(), "key-0001").await;
    store.idempotency().abandon(&ticket).await.unwrap();
    let ticket = fresh(&store, Uuid::nil(), "key-0001").await;
    store
        .idempotency()
        .finish(&ticket, &answer("done"))
        .await
        .unwrap();
    store.idempotency().abandon(&ticket).await.unwrap();
    assert_eq!(
        count(&store, "idempotency_keys").await,
        1,
        "what was answered stays"
    );
}

async fn a_request_whose_process_died_is_taken_over_and_the_ghost_cannot_answer(site: &Site) {
    let store = site.open().await;
    let ghost = fresh(&store, Uuid::nil(), "key-0001").await;
    tamper(
        &store,
        "UPDATE idempotency_keys SET started_at = started_at - 3600000000",
    )
    .await;
    let other = Request {
        fingerprint: "g".into(),
        ..request()
    };
    let refused = store
        .idempotency()
        .begin(Uuid::nil(), "key-0001", &other)
        .await;
    assert_eq!(kind(refused), Kind::Config);
    let ticket = fresh(&store, Uuid::nil(), "key-0001").await;
    store
        .idempotency()
        .finish(&ghost, &answer("ghost"))
        .await
        .unwrap();
    store
        .idempotency()
        .finish(&ticket, &answer("done"))
        .await
        .unwrap();
    let again = store
        .idempotency()
        .begin(Uuid::nil(), "key-0001", &request())
        .await
        .unwrap();
    assert_eq!(again, Begun::Replay(answer("done")));
}
