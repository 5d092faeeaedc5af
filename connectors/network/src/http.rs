//! HTTP by the same policy as everything else.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client, ClientBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::{Attempt, Policy},
};
use tideway_core::{
    Error, Result,
    outbound::{Outbound, Refusal},
};
use url::{Host, Url};

use crate::names::{Names, Nowhere};

const MOST_REDIRECTS: usize = 5;

/// How redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    Follow,
    /// They are answers like others.
    Show,
}

/// A client that looks names up, judges the addresses and connects to those alone. Addresses
/// that stand in URLs are not looked up: see [`permit`].
///
/// # Errors
/// `Bug` where there can be no client.
pub fn client(
    names: impl Into<Names>,
    redirects: Redirects,
    connect_time: Duration,
    settings: ClientBuilder,
) -> Result<Client> {
    let names = names.into();
    let outbound = names.outbound().clone();
    let public_only = outbound.public_only;
    let follow = move |attempt: Attempt<'_>| {
        let refused = judged(&outbound, attempt.url());
        match refused {
            Some(refusal) => attempt.error(Refused(refusal)),
            None if attempt.previous().len() > MOST_REDIRECTS => {
                attempt.error("redirected too often")
            }
            None => attempt.follow(),
        }
    };
    let mut builder = settings
        .user_agent(concat!("tideway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_time)
        .dns_resolver(Arc::new(Judge(names)))
        .redirect(match redirects {
            Redirects::Follow => Policy::custom(follow),
            Redirects::Show => Policy::none(),
        });
    if public_only {
        // It would look names up by itself.
        builder = builder.no_proxy();
    }
    let built = builder.build();
    built.map_err(|error| Error::bug("there is no HTTP client").because(error))
}

/// Judges the address that stands in a URL instead of a name, if one does.
///
/// # Errors
/// `Config` naming the field.
pub fn permit(outbound: &Outbound, url: &Url, field: &str) -> Result<()> {
    match judged(outbound, url) {
        None => Ok(()),
        Some(refusal) => Err(refused(url.host_str().unwrap_or_default(), refusal).field(field)),
    }
}

fn judged(outbound: &Outbound, url: &Url) -> Option<Refusal> {
    let address: IpAddr = match url.host()? {
        Host::Domain(_) => return None,
        Host::Ipv4(address) => address.into(),
        Host::Ipv6(address) => address.into(),
    };
    outbound.permits(address).err()
}

/// What the policy said, where a request failed for it.
///
/// # Errors
/// `None` where it failed for another reason.
pub fn refusal(error: &reqwest::Error, host: &str) -> Option<Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(Refused(refusal)) = error.downcast_ref::<Refused>() {
            return Some(refused(host, *refusal));
        }
        next = error.source();
    }
    None
}

fn refused(host: &str, refusal: Refusal) -> Error {
    Error::config(format!("{host} is {}", refusal.what())).hint(refusal.advice())
}

#[derive(Debug)]
struct Refused(Refusal);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.what())
    }
}

impl std::error::Error for Refused {}

struct Judge(Names);

impl Resolve for Judge {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.0.clone();
        Box::pin(async move {
            match names.addresses(name.as_str()).await {
                // The port is the URL's.
                Ok(found) => {
                    let found = found.into_iter().map(|ip| SocketAddr::from((ip, 0)));
                    Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
                }
                Err(Nowhere::Refused(refusal)) => Err(Refused(refusal).into()),
                Err(Nowhere::Unknown(error)) => Err(error.into()),
            }
        })
    }
}
