//! From a name to addresses that may be connected to: the only place that looks names up. What
//! was judged is what is dialled, whatever another look-up would say.

use std::{io, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use tideway_core::outbound::{Outbound, Refusal};

/// Who knows the addresses of a name.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own way: its files and its name servers.
struct System;

#[async_trait]
impl Resolver for System {
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// The policy, and who is asked for addresses.
#[derive(Clone)]
pub struct Names {
    outbound: Outbound,
    resolver: Arc<dyn Resolver>,
}

/// Why a name leads nowhere.
#[derive(Debug)]
pub(crate) enum Nowhere {
    Unknown(io::Error),
    Refused(Refusal),
}

impl From<Outbound> for Names {
    fn from(outbound: Outbound) -> Names {
        Names::new(outbound, System)
    }
}

impl Names {
    pub fn new(outbound: Outbound, resolver: impl Resolver) -> Names {
        Names {
            outbound,
            resolver: Arc::new(resolver),
        }
    }

    pub(crate) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// The addresses of a name that may be connected to, at least one.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Nowhere> {
        let found = self
            .resolver
            .look_up(host)
            .await
            .map_err(Nowhere::Unknown)?;
        let (mut permitted, mut refused) = (Vec::new(), None);
        for address in found {
            match self.outbound.permits(address) {
                Ok(()) => permitted.push(address),
                Err(refusal) => refused = Some(refusal),
            }
        }
        match (permitted.is_empty(), refused) {
            (false, _) => Ok(permitted),
            (true, Some(refusal)) => Err(Nowhere::Refused(refusal)),
            (true, None) => Err(Nowhere::Unknown(io::ErrorKind::NotFound.into())),
        }
    }
}
