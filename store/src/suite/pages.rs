use std::collections::HashSet;

use tideway_core::Kind;
use uuid::Uuid;

use super::{Shop, Site, both, kind, tamper};
use crate::{ExecutionDraft, ExecutionFilter, ExecutionStatus, PageRequest, SyncFilter};

both![
    pages_cover_a_list_once_while_rows_are_added,
    rows_of_the_same_moment_are_neither_lost_nor_doubled,
    executions_page_both_ways,
    a_token_of_another_list_or_a_made_up_one_is_refused,
];

async fn pages_cover_a_list_once_while_rows_are_added(site: &Site) {
    let shop = site.with_shop().await;
    let mut wanted = HashSet::from([shop.sync.id]);
    for n in 0..12 {
        wanted.insert(shop.another_sync(&format!("sync {n}")).await.id);
    }
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let request = PageRequest {
            limit: 3,
            token: token.clone(),
        };
        let syncs = shop.store.bulk_syncs();
        let page = syncs
            .list(shop.organization, SyncFilter::default(), &request)
            .await
            .unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.iter().map(|sync| sync.id));
        shop.another_sync("late").await;
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), wanted.len());
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), wanted);
}

async fn connections(shop: &Shop, limit: u32) -> Vec<Uuid> {
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let request = PageRequest { limit, token };
        let page = shop
            .store
            .connections()
            .list(shop.organization, &request)
            .await
            .unwrap();
        seen.extend(page.items.iter().map(|connection| connection.id));
        token = page.next;
        if token.is_none() {
            return seen;
        }
    }
}

async fn rows_of_the_same_moment_are_neither_lost_nor_doubled(site: &Site) {
    let shop = site.with_shop().await;
    for n in 0..5 {
        let draft = super::connection(&format!("c{n}"));
        let connections = shop.store.connections();
        connections
            .create(shop.organization, &shop.author, &draft)
            .await
            .unwrap();
    }
    tamper(
        &shop.store,
        "UPDATE connections SET updated_at = 1700000000000000",
    )
    .await;
    let whole = connections(&shop, 50).await;
    assert_eq!(whole.len(), 7);
    for limit in [1, 2, 3, 7] {
        assert_eq!(
            connections(&shop, limit).await,
            whole,
            "in pages of {limit}"
        );
    }
}

async fn executions_page_both_ways(site: &Site) {
    let shop = site.with_shop().await;
    let draft = ExecutionDraft::manual(shop.author.clone());
    let mut made = Vec::new();
    for _ in 0..7 {
        let executions = shop.store.executions();
        made.push(
            executions
                .create(shop.organization, shop.sync.id, &draft)
                .await
                .unwrap()
                .id,
        );
        executions
            .cancel_sync(shop.organization, shop.sync.id)
            .await
            .unwrap();
    }
    for ascending in [true, false] {
        let filter = ExecutionFilter {
            only_terminal: true,
            ascending,
        };
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let request = PageRequest { limit: 2, token };
            let executions = shop.store.executions();
            let page = executions
                .list(shop.organization, shop.sync.id, filter, &request)
                .await
                .unwrap();
            assert!(
                page.items
                    .iter()
                    .all(|one| one.status == ExecutionStatus::Canceled)
            );
            seen.extend(page.items.iter().map(|one| one.id));
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        if !ascending {
            seen.reverse();
        }
        assert_eq!(seen, made);
    }
}

async fn a_token_of_another_list_or_a_made_up_one_is_refused(site: &Site) {
    let shop = site.with_shop().await;
    let first = PageRequest::new(1, None);
    let page = shop
        .store
        .connections()
        .list(shop.organization, &first)
        .await
        .unwrap();
    let token = page.next.unwrap();
    let syncs = shop.store.bulk_syncs();
    for wrong in [token.as_str(), "x", "%%%", "e30", "eyJ2IjoxfQ"] {
        let request = PageRequest::new(1, Some(wrong));
        let refused = syncs
            .list(shop.organization, SyncFilter::default(), &request)
            .await;
        let error = refused.unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Config, Some("page_token"))
        );
    }
    let request = PageRequest::new(1, Some(&token));
    let other = shop.store.organizations().create("Other").await.unwrap();
    let page = shop
        .store
        .connections()
        .list(other.id, &request)
        .await
        .unwrap();
    assert!(page.items.is_empty(), "a token opens nobody else's list");
    let unknown = shop.store.executions();
    let filter = ExecutionFilter::default();
    let missing = unknown.list(other.id, shop.sync.id, filter, &first).await;
    assert_eq!(kind(missing), Kind::Missing);
}
