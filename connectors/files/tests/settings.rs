//! Forms and URLs.

use serde_json::json;
use tideway_core::{Connector, Kind};
use tideway_files::{CsvConnector, FilesConnector, S3Connector};
use url::Url;

#[test]
fn the_forms_have_the_names_of_the_contract() {
    let form = &S3Connector.forms().connection;
    let names: Vec<&str> = form.properties().map(|(name, _)| name.as_str()).collect();
    for name in [
        "auth_mode",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_user",
        "iam_role_arn",
        "external_id",
        "s3_bucket_region",
        "s3_bucket_name",
        "enable_event_notifications",
        "event_queue_arn",
        "csv_has_headers",
        "is_single_table",
        "is_directory_snapshot",
        "directory_glob_pattern",
        "single_table_name",
        "single_table_file_format",
        "single_table_file_formats",
        "skip_lines",
        "endpoint",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let schema = &form.json_schema;
    assert_eq!(
        schema["required"],
        json!(["auth_mode", "s3_bucket_region", "s3_bucket_name"])
    );
    assert_eq!(
        schema["properties"]["auth_mode"]["enum"],
        json!([
            {"value": "access_key_and_secret", "label": "Access Key and Secret"},
            {"value": "iam_role", "label": "IAM role"}
        ])
    );
    let formats = json!([
        {"value": "csv", "label": "CSV"},
        {"value": "json", "label": "JSON"},
        {"value": "parquet", "label": "Parquet"}
    ]);
    assert_eq!(
        schema["properties"]["single_table_file_format"]["enum"],
        formats
    );
    assert_eq!(
        schema["properties"]["single_table_file_formats"]["items"]["enum"],
        formats
    );
    assert_eq!(
        schema["properties"]["aws_secret_access_key"]["sensitive"],
        true
    );
    assert_eq!(schema["properties"]["aws_user"]["readOnly"], true);
    let shown = form.redacted(&json!({"aws_secret_access_key": "s3cret"}));
    assert!(!shown.to_string().contains("s3cret"));
    assert_eq!(
        S3Connector.forms().destination.json_schema["properties"]["format"]["default"],
        "csv"
    );
    assert_eq!(
        FilesConnector.forms().destination.json_schema["properties"]["format"]["default"],
        "parquet"
    );
    assert_eq!(
        FilesConnector.forms().connection.json_schema["required"],
        json!(["path"])
    );
}

#[test]
fn secrets_of_a_csv_connection_are_masked_and_kept() {
    let form = &CsvConnector.forms().connection;
    let stored = json!({
        "url": "https://x/y.csv",
        "auth": {
            "basic": {"username": "u", "password": "one"},
            "query": [{"name": "k", "value": "two"}],
            "oauth": {"client_id": "c", "client_secret": "three", "token_endpoint": "https://t"}
        }
    });
    let shown = form.redacted(&stored);
    for secret in ["one", "two", "three"] {
        assert!(!shown.to_string().contains(secret), "{shown}");
    }
    assert_eq!(form.with_kept_secrets(&shown, &stored), stored);
}

#[test]
fn urls_become_settings() {
    let parse =
        |connector: &dyn Connector, url: &str| connector.parse_url(&Url::parse(url).unwrap());
    let folder = parse(
        &FilesConnector,
        "file:///tmp/a%20b?format=parquet&compression=zstd&is_single_table=true&single_table_name=t&hard_deletes=1",
    )
    .unwrap();
    assert_eq!(
        folder.configuration,
        json!({"is_single_table": true, "single_table_name": "t", "path": "/tmp/a b"})
    );
    assert_eq!(
        folder.options,
        json!({"format": "parquet", "compression": "zstd", "advanced": {"hard_deletes": true}})
    );
    let bucket = parse(
        &S3Connector,
        "s3://KEY:SE%2FCRET@bucket/some/prefix?format=json&region=eu-west-1&endpoint=http://127.0.0.1:9000",
    )
    .unwrap();
    assert_eq!(
        bucket.configuration,
        json!({
            "s3_bucket_region": "eu-west-1",
            "endpoint": "http://127.0.0.1:9000",
            "s3_bucket_name": "bucket/some/prefix",
            "aws_access_key_id": "KEY",
            "aws_secret_access_key": "SE/CRET",
            "auth_mode": "access_key_and_secret"
        })
    );
    let csv = parse(&CsvConnector, "https://u:p%40ss@example.com/x.csv?a=1").unwrap();
    assert_eq!(
        csv.configuration,
        json!({"url": "https://example.com/x.csv?a=1", "auth": {"basic": {"username": "u", "password": "p@ss"}}})
    );
    for wrong in [
        "file:///tmp?colour=red",
        "file:///tmp?format=excel",
        "file:///tmp?skip_lines=x",
        "file://host/tmp",
    ] {
        let error = parse(&FilesConnector, wrong).unwrap_err();
        assert_eq!(error.kind, Kind::Config, "{wrong}");
    }
}
