//! The network as connectors use it: names, addresses, HTTP and SSH tunnels on loopback.

mod names;
mod rig;
mod tunnels;
