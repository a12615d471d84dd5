//! `exalign serve-device`: lends one device of this machine to other processes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use exalign::Result;
use exalign::device::remote::{Server, token};
use serde_json::json;

use crate::context::{Context, Global};
use crate::output::print_line;

/// Options of `exalign serve-device`.
#[derive(Args, Debug)]
pub struct ServeDeviceArgs {
    /// The file with the token that clients must present [default: EXALIGN_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free port, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
}

/// Runs the command until Ctrl-C.
pub fn run(args: &ServeDeviceArgs, global: &Global) -> Result<()> {
    let token = token(args.token_file.as_deref())?;
    let context = Context::new(global)?;
    let server = Server::bind(context.device, args.listen, token)?;
    let address = server.address()?;
    if !address.ip().is_loopback() {
        tracing::warn!(
            "{address} can be reached from other machines, and neither token nor data is encrypted on the \
             way; on a network that is not trusted, listen on 127.0.0.1 and connect through `ssh -L`"
        );
    }
    print_line(&json!({ "device": context.device_name, "listening": address }))?;
    server.run()
}
