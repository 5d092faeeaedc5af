use schemars::JsonSchema;
use serde::Deserialize;
use tideway_core::Secret;

use crate::layout::LayoutSettings;

/// Settings of a connection to a bucket.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// How to sign in.
    #[schemars(
        title = "Authentication Method",
        extend("default" = "access_key_and_secret", "examples" = ["access_key_and_secret"],
               "labels" = ["Access Key and Secret", "IAM role"])
    )]
    pub auth_mode: AuthMode,
    /// Key with read access to the bucket, and write access for a destination.
    #[schemars(title = "AWS Access Key ID", extend("examples" = ["AKIAIOSFODNN7EXAMPLE"]))]
    pub aws_access_key_id: Option<String>,
    #[schemars(
        title = "AWS Secret Access Key",
        extend("sensitive" = true, "password" = true,
               "examples" = ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"])
    )]
    pub aws_secret_access_key: Option<Secret>,
    /// Goes with keys that are only valid for a while.
    #[schemars(
        title = "AWS Session Token",
        extend("sensitive" = true, "password" = true, "hidden" = true)
    )]
    pub aws_session_token: Option<Secret>,
    #[schemars(title = "User ARN", extend("readOnly" = true))]
    pub aws_user: Option<String>,
    #[schemars(title = "IAM Role ARN")]
    pub iam_role_arn: Option<String>,
    /// Goes with the role.
    #[schemars(title = "External ID", extend("readOnly" = true))]
    pub external_id: Option<String>,
    #[schemars(title = "S3 Bucket Region", extend("examples" = ["us-east-1"]))]
    pub s3_bucket_region: String,
    /// A bucket, and a folder in it if need be: `s3://bucket/folder`.
    #[schemars(title = "S3 Bucket Name", extend("examples" = ["s3://tideway/dataset"]))]
    pub s3_bucket_name: String,
    /// Address of an S3-compatible server; empty for AWS.
    #[schemars(title = "Endpoint", extend("examples" = ["http://127.0.0.1:9000"]))]
    pub endpoint: Option<String>,
    /// Read new files as S3 tells of them.
    #[schemars(title = "Enable event notifications")]
    pub enable_event_notifications: Option<bool>,
    /// Queue that S3 tells of new files by.
    #[schemars(
        title = "Event Queue ARN",
        extend("examples" = ["arn:aws:sqs:us-east-1:123456789012:my-queue"])
    )]
    pub event_queue_arn: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    #[default]
    AccessKeyAndSecret,
    IamRole,
}

/// All of the form. The two halves are parsed apart, so that an error names its field.
#[derive(JsonSchema)]
#[schemars(extend("required" = ["auth_mode", "s3_bucket_region", "s3_bucket_name"]))]
#[allow(dead_code)] // only its schema is used
pub struct ConnectionForm {
    #[serde(flatten)]
    config: Config,
    #[serde(flatten)]
    layout: LayoutSettings,
}
