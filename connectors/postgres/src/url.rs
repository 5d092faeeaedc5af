//! Connection URLs as libpq's users write them.
use tideway_core::{Result, connector::Endpoint};
use url::Url;
pub fn parse(_url: &Url) -> Result<Endpoint> {
    Err(tideway_core::Error::bug("stub"))
}
