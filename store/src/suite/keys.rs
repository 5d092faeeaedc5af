use tideway_core::{Kind, Secret};
use uuid::Uuid;

use super::{Site, both, count, kind};
use crate::{ActorKind, Bootstrap, Store};

both![
    the_first_start_makes_an_owner_and_shows_the_key_once,
    many_first_starts_at_once_make_one_organization,
    a_fixed_key_takes_the_place_of_the_one_before,
    a_deployment_key_acts_for_any_organization,
    a_key_that_is_too_short_or_used_twice_is_refused,
    a_revoked_key_opens_nothing,
    keys_are_stored_as_hashes_only,
];

async fn bootstrap_with(store: &Store, api_key: Option<&str>, deployment_key: Option<&str>) {
    let wanted = Bootstrap {
        api_key: api_key.map(Secret::new),
        deployment_key: deployment_key.map(Secret::new),
        ..Bootstrap::default()
    };
    store.bootstrap(&wanted).await.unwrap();
}

async fn the_first_start_makes_an_owner_and_shows_the_key_once(site: &Site) {
    let store = site.open().await;
    let first = store.bootstrap(&Bootstrap::default()).await.unwrap();
    let key = first.new_key.unwrap();
    let actor = store
        .keys()
        .authenticate(key.expose())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(actor.kind, ActorKind::User);
    assert_eq!(actor.organization().unwrap(), first.organization.id);
    assert_eq!(
        actor.organization_name.as_deref(),
        Some("Default organization")
    );
    assert_eq!(actor.user.as_ref(), Some(&first.owner));
    assert_eq!(actor.author().name, "Owner");

    let second = store.bootstrap(&Bootstrap::default()).await.unwrap();
    assert!(second.new_key.is_none());
    assert_eq!(second.organization, first.organization);
    assert_eq!(
        store.keys().authenticate("tideway_nonsense").await.unwrap(),
        None
    );
    let listed = store.keys().list(first.organization.id).await.unwrap();
    assert!(listed[0].last_used_at.is_some());
}

async fn many_first_starts_at_once_make_one_organization(site: &Site) {
    let starts = (0..4).map(|_| async {
        let store = site.open().await;
        store
            .bootstrap(&Bootstrap::default())
            .await
            .unwrap()
            .new_key
            .is_some()
    });
    let shown = futures::future::join_all(starts).await;
    assert_eq!(shown.iter().filter(|shown| **shown).count(), 1);
    assert_eq!(count(&site.open().await, "organizations").await, 1);
}

async fn a_fixed_key_takes_the_place_of_the_one_before(site: &Site) {
    let store = site.open().await;
    let known = async |key| store.keys().authenticate(key).await.unwrap().is_some();
    bootstrap_with(&store, Some("fixed-key-number-one"), None).await;
    bootstrap_with(&store, Some("fixed-key-number-one"), None).await;
    assert!(known("fixed-key-number-one").await);
    bootstrap_with(&store, Some("fixed-key-number-two"), None).await;
    assert!(known("fixed-key-number-two").await);
    assert!(!known("fixed-key-number-one").await);
    assert_eq!(count(&store, "api_keys").await, 1);
}

async fn a_deployment_key_acts_for_any_organization(site: &Site) {
    let store = site.open().await;
    bootstrap_with(
        &store,
        Some("the-owners-fixed-key"),
        Some("the-deployment-key"),
    )
    .await;
    let other = store.organizations().create("Other").await.unwrap();
    let keys = store.keys();

    let system = keys
        .authenticate("the-deployment-key")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (system.kind, system.organization_id),
        (ActorKind::System, None)
    );
    assert_eq!(kind(system.organization()), Kind::Permission);

    let actor = keys
        .authenticate_for(other.id, "the-deployment-key")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (actor.kind, actor.organization_id),
        (ActorKind::Organization, Some(other.id))
    );
    assert_eq!(actor.author().name, "Other");
    let unknown = Uuid::now_v7();
    assert_eq!(
        keys.authenticate_for(unknown, "the-deployment-key")
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        keys.authenticate_for(other.id, "the-owners-fixed-key")
            .await
            .unwrap(),
        None
    );
}

async fn a_key_that_is_too_short_or_used_twice_is_refused(site: &Site) {
    let store = site.open().await;
    let mut wanted = Bootstrap {
        api_key: Some(Secret::new("short")),
        ..Bootstrap::default()
    };
    assert_eq!(kind(store.bootstrap(&wanted).await), Kind::Config);
    assert_eq!(
        count(&store, "organizations").await,
        0,
        "a failed start leaves nothing behind"
    );
    wanted.api_key = Some(Secret::new("the-same-for-both"));
    wanted.deployment_key = wanted.api_key.clone();
    let error = store.bootstrap(&wanted).await.unwrap_err();
    assert_eq!(error.blamed_field(), Some("deployment_key"));
}

async fn a_revoked_key_opens_nothing(site: &Site) {
    let store = site.open().await;
    let first = store.bootstrap(&Bootstrap::default()).await.unwrap();
    let (organization, keys) = (first.organization.id, store.keys());
    let (key, secret) = keys
        .create(organization, first.owner.id, "laptop")
        .await
        .unwrap();
    assert!(keys.authenticate(secret.expose()).await.unwrap().is_some());
    keys.revoke(organization, key.id).await.unwrap();
    assert!(keys.authenticate(secret.expose()).await.unwrap().is_none());
    assert_eq!(kind(keys.revoke(organization, key.id).await), Kind::Missing);
}

async fn keys_are_stored_as_hashes_only(site: &Site) {
    let store = site.open().await;
    let first = store.bootstrap(&Bootstrap::default()).await.unwrap();
    let key = first.new_key.clone().unwrap();
    let hidden = &key.expose()["tideway_".len()..][..10];
    for row in store
        .db()
        .all("SELECT * FROM api_keys", vec![])
        .await
        .unwrap()
    {
        for column in ["name", "lookup", "hash"] {
            assert!(!row.text(column).unwrap().contains(hidden));
        }
    }
    assert!(!format!("{first:?}").contains(hidden));
}
