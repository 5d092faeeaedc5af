use std::path::Path;

use serde_json::json;
use tideway_core::Kind;

use super::{Shop, Site, both, connection, cut_off, kind, tamper};
use crate::{
    Configuration, KEY_FILE, Keyring, PageRequest, Store,
    idempotency::{Begun, Request, StoredResponse},
};

both![
    a_configuration_comes_back_as_it_was,
    a_changed_ciphertext_does_not_open,
    a_ciphertext_moved_to_another_record_does_not_open,
    a_data_key_moved_to_another_record_does_not_open,
    the_wrong_key_is_refused_before_anything_is_written,
    a_rotation_re_wraps_everything_and_the_old_key_can_go,
    a_rotation_that_died_halfway_is_finished_by_the_next,
    a_running_server_follows_a_renewed_key_file,
    a_canary_is_nowhere_in_the_database,
    an_organization_has_one_obfuscation_key_for_ever,
    a_signature_holds_in_every_process_and_through_a_rotation,
];

async fn a_configuration_comes_back_as_it_was(site: &Site) {
    let shop = site.with_shop().await;
    let settings = json!({ "z": 1, "a": { "password": "hunter2" }, "n": null, "nul": "\u{0}" });
    let mut draft = connection("shop");
    draft.configuration = Configuration::new(settings.clone());
    let connections = shop.store.connections();
    let made = connections
        .create(shop.organization, &shop.author, &draft)
        .await
        .unwrap();
    assert_eq!(
        made.configuration.expose().to_string(),
        settings.to_string()
    );
    assert!(!format!("{made:?} {draft:?}").contains("hunter2"));
}

/// The shop's source does not open, and says why.
async fn assert_damaged(shop: &Shop) {
    let read = shop
        .store
        .connections()
        .get(shop.organization, shop.source.id)
        .await;
    let error = read.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(
        error.what().contains(&shop.source.id.to_string()),
        "{error}"
    );
}

async fn a_changed_ciphertext_does_not_open(site: &Site) {
    let shop = site.with_shop().await;
    tamper(
        &shop.store,
        "UPDATE secrets SET ciphertext = substr(ciphertext, 1, 40) || 'A' || substr(ciphertext, 42)
         WHERE purpose = 'connection-configuration' AND substr(ciphertext, 41, 1) <> 'A'",
    )
    .await;
    let connections = shop.store.connections();
    let mut damaged = 0;
    for id in [shop.source.id, shop.destination.id] {
        damaged += i32::from(connections.get(shop.organization, id).await.is_err());
    }
    assert!(damaged > 0);
}

async fn a_ciphertext_moved_to_another_record_does_not_open(site: &Site) {
    let shop = site.with_shop().await;
    let [to, from] = [shop.source.id, shop.destination.id];
    tamper(
        &shop.store,
        &format!(
            "UPDATE secrets SET
               ciphertext = (SELECT ciphertext FROM secrets WHERE record_id = '{from}'),
               wrapped_key = (SELECT wrapped_key FROM secrets WHERE record_id = '{from}')
             WHERE record_id = '{to}'"
        ),
    )
    .await;
    assert_damaged(&shop).await;
}

async fn a_data_key_moved_to_another_record_does_not_open(site: &Site) {
    let shop = site.with_shop().await;
    let [to, from] = [shop.source.id, shop.destination.id];
    tamper(
        &shop.store,
        &format!(
            "UPDATE secrets SET
               wrapped_key = (SELECT wrapped_key FROM secrets WHERE record_id = '{from}')
             WHERE record_id = '{to}'"
        ),
    )
    .await;
    assert_damaged(&shop).await;
}

async fn the_wrong_key_is_refused_before_anything_is_written(site: &Site) {
    site.with_shop().await;
    let error = Store::open(&site.url, Keyring::generate().unwrap())
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("encryption_key"))
    );
}

async fn password(store: &Store, shop: &Shop) -> String {
    let read = store
        .connections()
        .get(shop.organization, shop.source.id)
        .await
        .unwrap();
    read.configuration.expose()["password"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn a_rotation_re_wraps_everything_and_the_old_key_can_go(site: &Site) {
    let (old, new) = ("11".repeat(32), "22".repeat(32));
    let shop = Shop::set_up(
        Store::open(&site.url, Keyring::parse(&old).unwrap())
            .await
            .unwrap(),
    )
    .await;
    let answer = an_answer(&shop.store).await;

    let both = Keyring::parse(&format!("{new},{old}")).unwrap();
    let store = Store::open(&site.url, both.clone()).await.unwrap();
    let rotation = store.rotate().await.unwrap();
    assert_eq!((rotation.key_id, rotation.rewrapped), (both.newest(), 4));
    assert_eq!(
        rotation.total, 4,
        "two connections, an answer and the check of the key"
    );
    assert_eq!(store.rotate().await.unwrap().rewrapped, 0);

    let store = Store::open(&site.url, Keyring::parse(&new).unwrap())
        .await
        .unwrap();
    assert_eq!(password(&store, &shop).await, "hunter2");
    assert_eq!(again(&store).await, answer);
    assert!(
        Store::open(&site.url, Keyring::parse(&old).unwrap())
            .await
            .is_err()
    );
}

async fn an_answer(store: &Store) -> StoredResponse {
    let answer = StoredResponse {
        status: 200,
        headers: vec![],
        body: b"secret".to_vec(),
    };
    match store
        .idempotency()
        .begin(uuid::Uuid::nil(), "key", &request())
        .await
        .unwrap()
    {
        Begun::Fresh(ticket) => store.idempotency().finish(&ticket, &answer).await.unwrap(),
        Begun::Replay(_) => panic!("nobody has asked before"),
    }
    answer
}

async fn again(store: &Store) -> StoredResponse {
    match store
        .idempotency()
        .begin(uuid::Uuid::nil(), "key", &request())
        .await
        .unwrap()
    {
        Begun::Replay(answer) => answer,
        Begun::Fresh(_) => panic!("the answer is lost"),
    }
}

fn request() -> Request {
    Request {
        method: "POST".into(),
        path: "/".into(),
        fingerprint: "0".into(),
    }
}

async fn a_rotation_that_died_halfway_is_finished_by_the_next(site: &Site) {
    let (old, new) = ("11".repeat(32), "22".repeat(32));
    let open = async |keys: &str| Store::open(&site.url, Keyring::parse(keys).unwrap()).await;
    let shop = Shop::set_up(open(&old).await.unwrap()).await;
    for n in 0..45 {
        let draft = connection(&format!("c{n}"));
        let connections = shop.store.connections();
        connections
            .create(shop.organization, &shop.author, &draft)
            .await
            .unwrap();
    }
    let store = open(&format!("{new},{old}")).await.unwrap();
    let newest = store.keyring().newest();
    let mut halfway = 0;
    for polls in 0.. {
        let ended = cut_off(store.rotate(), polls).await.is_some();
        let page = PageRequest::new(100, None);
        let listed = store
            .connections()
            .list(shop.organization, &page)
            .await
            .unwrap();
        assert_eq!(listed.items.len(), 47, "all of them open at any time");
        let sql = format!("SELECT COUNT(*) AS n FROM secrets WHERE key_id = '{newest}'");
        let done = store
            .db()
            .one("count", &sql, vec![])
            .await
            .unwrap()
            .int("n")
            .unwrap();
        if ended {
            assert_eq!(done, 48);
            break;
        }
        halfway += i32::from((1..48).contains(&done));
    }
    assert!(halfway > 0, "none died halfway");
    let store = open(&new).await.unwrap();
    assert_eq!(password(&store, &shop).await, "hunter2");
}

async fn a_running_server_follows_a_renewed_key_file(site: &Site) {
    let folder = site.folder.path();
    let server = Store::open(&site.url, Keyring::load(None, folder).unwrap())
        .await
        .unwrap();
    let shop = Shop::set_up(server).await;

    let renewed = Keyring::renew(folder).unwrap();
    let tool = Store::open(&site.url, renewed.clone()).await.unwrap();
    assert_eq!(tool.rotate().await.unwrap().key_id, renewed.newest());
    assert_eq!(password(&shop.store, &shop).await, "hunter2");

    let mut draft = connection("late");
    draft.configuration = Configuration::new(json!({ "password": "hunter3" }));
    let connections = shop.store.connections();
    connections
        .create(shop.organization, &shop.author, &draft)
        .await
        .unwrap();
    assert_eq!(
        tool.rotate().await.unwrap().rewrapped,
        0,
        "the server wraps by the new key"
    );

    let only = Keyring::retire(folder).unwrap();
    assert_eq!(only.newest(), renewed.newest());
    let store = Store::open(&site.url, only).await.unwrap();
    assert_eq!(password(&store, &shop).await, "hunter2");
}

async fn a_canary_is_nowhere_in_the_database(site: &Site) {
    const CANARY: &str = "canary-7f3a9c51";
    let shop = site.with_shop().await;
    let mut draft = connection("shop");
    draft.configuration = Configuration::new(json!({ "password": CANARY }));
    let connections = shop.store.connections();
    let made = connections
        .create(shop.organization, &shop.author, &draft)
        .await
        .unwrap();
    connections
        .update(shop.organization, made.id, &shop.author, &draft)
        .await
        .unwrap();
    let body = format!("{{\"key\":\"{CANARY}\"}}").into_bytes();
    let answer = StoredResponse {
        status: 200,
        headers: vec![],
        body,
    };
    assert!(
        !format!("{answer:?}").contains("99, 97, 110"),
        "not as numbers either"
    );
    let idempotency = shop.store.idempotency();
    if let Begun::Fresh(ticket) = idempotency
        .begin(shop.organization, "key", &request())
        .await
        .unwrap()
    {
        idempotency.finish(&ticket, &answer).await.unwrap();
    }
    let dump = dump(site, &shop.store).await;
    assert!(
        dump.contains("warehouse"),
        "the dump holds what is not secret"
    );
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, CANARY);
    for form in [CANARY, &base64[..14], &hex::encode(CANARY)] {
        assert!(!dump.contains(form));
    }
}

async fn an_organization_has_one_obfuscation_key_for_ever(site: &Site) {
    let shop = site.with_shop().await;
    let other = site.open().await;
    let organization = shop.organization;
    let (here, there) = tokio::join!(
        shop.store.obfuscation_key(organization),
        other.obfuscation_key(organization)
    );
    let key = here.unwrap();
    assert_eq!((key.len(), &key), (32, &there.unwrap()));
    shop.store.rotate().await.unwrap();
    assert_eq!(shop.store.obfuscation_key(organization).await.unwrap(), key);
    let second = shop.store.organizations().create("Other").await.unwrap();
    assert_ne!(shop.store.obfuscation_key(second.id).await.unwrap(), key);
    let unknown = shop.store.obfuscation_key(uuid::Uuid::now_v7()).await;
    assert_eq!(kind(unknown), Kind::Missing);
}

async fn a_signature_holds_in_every_process_and_through_a_rotation(site: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let keyring = Keyring::load(None, folder.path()).unwrap();
        Store::open(&site.url, keyring).await.unwrap()
    };
    let (here, there) = (open().await, open().await);
    let signature = here.sign("links", "a").await.unwrap();
    assert!(there.verify("links", "a", &signature).await.unwrap());
    for (purpose, message) in [("links", "b"), ("tokens", "a")] {
        assert!(!there.verify(purpose, message, &signature).await.unwrap());
    }
    assert!(!there.verify("links", "a", &[]).await.unwrap());

    Keyring::renew(folder.path()).unwrap();
    let newer = here.sign("links", "a").await.unwrap();
    assert_ne!(newer, signature);
    for signed in [&newer, &signature] {
        assert!(there.verify("links", "a", signed).await.unwrap());
    }
    here.rotate().await.unwrap();
    Keyring::retire(folder.path()).unwrap();
    let restarted = open().await;
    assert!(restarted.verify("links", "a", &newer).await.unwrap());
    assert!(!restarted.verify("links", "a", &signature).await.unwrap());
}

/// All bytes that the database keeps, as lossy text.
async fn dump(site: &Site, store: &Store) -> String {
    if store.db().is_postgres() {
        let sql = "SELECT query_to_xml('SELECT * FROM ' || table_name, true, false, '')::TEXT AS x
                   FROM information_schema.tables WHERE table_schema = 'public'";
        let rows = store.db().all(sql, vec![]).await.unwrap();
        return rows.iter().map(|row| row.text("x").unwrap()).collect();
    }
    let read = |name: &str| std::fs::read(site.folder.path().join(name)).unwrap_or_default();
    let bytes = [read("tideway.db"), read("tideway.db-wal")].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn keys_may_be_hex_or_base64_and_each_counts_once() {
    let hex = "00".repeat(32);
    let base64 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let both = Keyring::parse(&format!("{hex}, {base64}")).unwrap();
    assert_eq!(both.newest(), Keyring::parse(base64).unwrap().newest());
    for wrong in ["", " , ", "abc", &"00".repeat(31)] {
        assert_eq!(kind(Keyring::parse(wrong)), Kind::Config, "{wrong}");
    }
    assert!(!format!("{both:?}").contains("0000"));
}

#[test]
fn processes_that_start_together_share_one_key_file() {
    let folder = tempfile::tempdir().unwrap();
    let load = || Keyring::load(None, folder.path()).unwrap().newest();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no draft is left behind");
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    Keyring::load(None, folder.path()).unwrap();
    let file = folder.path().join(KEY_FILE);
    assert_eq!(mode(&file), 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Keyring::load(None, folder.path()).unwrap_err();
    assert!(error.advice().starts_with("chmod 600"));
}

fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_database_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tideway.db");
    let url = format!("sqlite://{}", file.display());
    let _store = Store::open(&url, Keyring::generate().unwrap())
        .await
        .unwrap();
    for name in ["tideway.db", "tideway.db-wal", "tideway.db-shm"] {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
    }
}
