use schemars::JsonSchema;
use serde::Deserialize;

use crate::layout::LayoutSettings;

/// Settings of a connection to a folder.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config {
    /// Folder on the machine that runs Tideway; as a source, a single file will do.
    #[schemars(title = "Folder", extend("examples" = ["/var/data/exports"]))]
    pub path: String,
}

/// All of the form. The two halves are parsed apart, so that an error names its field.
#[derive(JsonSchema)]
#[allow(dead_code)] // only its schema is used
pub struct ConnectionForm {
    #[serde(flatten)]
    config: Config,
    #[serde(flatten)]
    layout: LayoutSettings,
}
