//! Devices of other processes and machines: serving one, and using one.
//!
//! A server computes for clients that present its token, and for nobody else; it does not start without a
//! token. It listens on its own machine only, unless it is given another address. The traffic is not
//! encrypted: between machines, use a tunnel (`ssh -L`) or a trusted network.
//!
//! Autodiff stays on the client's side, so a remote device is used like any other. burn reports a lost server
//! by a panic; [`or_lost`] turns the panic into an error.

use std::net::{SocketAddr, TcpListener};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use burn::remote::RemoteHost;
use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};
use burn::tensor::Device;

use super::one_line;
use crate::panics;
use crate::{Error, Result};

/// The variable that names the file with the token.
pub const TOKEN_FILE: &str = "EXALIGN_TOKEN_FILE";

/// The variable with the token itself, where there is no file.
pub const TOKEN: &str = "EXALIGN_TOKEN";

/// What is too short to be a secret.
const SHORTEST_TOKEN: usize = 16;

/// The token of `file`, else of the file that `EXALIGN_TOKEN_FILE` names, else `EXALIGN_TOKEN`.
///
/// # Errors
/// If there is none, or it is shorter than 16 characters.
pub fn token(file: Option<&Path>) -> Result<String> {
    let file = file.map(Path::to_owned).or_else(|| std::env::var_os(TOKEN_FILE).map(PathBuf::from));
    let (from, text) = match (file, std::env::var(TOKEN)) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(&file).map_err(Error::io(&file, "read"))?;
            (file.display().to_string(), text)
        }
        (None, Ok(text)) => (TOKEN.to_owned(), text),
        (None, Err(_)) => {
            return Err(Error::usage(format!(
                "a remote device needs the token its server was started with: {TOKEN_FILE} must name the \
                 file that holds it; `openssl rand -hex 32` makes one"
            )));
        }
    };
    let token = text.trim();
    if token.len() < SHORTEST_TOKEN {
        return Err(Error::usage(format!(
            "{from}: expected a token of at least {SHORTEST_TOKEN} characters, found {}; `openssl rand -hex \
             32` makes one",
            token.len()
        )));
    }
    crate::secrets::keep(token);
    Ok(token.to_owned())
}

/// The device that a server at `address` (`HOST:PORT`) hosts.
///
/// # Errors
/// If there is no token here, no server there, or it refuses.
pub fn connect(address: &str) -> Result<Device> {
    let refuse = |problem: &str| Error::usage(format!("--device remote:{address}: {problem}"));
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none() {
        return Err(refuse("expected HOST:PORT of a server that `exalign serve-device` started"));
    }
    let host =
        RemoteHost::websocket(&format!("ws://{address}")).with_credential(token(None)?.as_str());
    Device::remote_options(&host).init().map_err(|error| {
        Error::Device(format!(
            "remote:{address}: no session: {}; see that `exalign serve-device` runs there with the same token",
            one_line(&error.to_string())
        ))
    })
}

/// A device being served.
pub struct Server {
    device: Device,
    listener: TcpListener,
    token: String,
}

impl Server {
    /// Takes the address; clients may connect from now on, and are answered once it [runs](Self::run).
    ///
    /// # Errors
    /// If the address is taken.
    pub fn bind(device: Device, address: SocketAddr, token: String) -> Result<Self> {
        let listener = TcpListener::bind(address).map_err(|error| {
            Error::usage(format!("--listen {address}: cannot listen there: {error}"))
        })?;
        Ok(Self { device, listener, token })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = self.listener.local_addr();
        address.map_err(|error| Error::Device(format!("the server's address is unknown: {error}")))
    }

    /// Serves until Ctrl-C or a termination signal.
    ///
    /// # Errors
    /// If the transport fails.
    pub fn run(self) -> Result<()> {
        let authorizer = TokenAuthorizer::new(self.token.as_str())
            .map_err(|error| Error::usage(error.to_string()))?;
        RemoteServer::new([self.device])
            .with_authorizer(authorizer)
            .serve(WebSocketTransport::from_listener(self.listener))
            .map_err(|error| Error::Device(format!("serving: {}", one_line(&error.to_string()))))
    }
}

/// Runs `work` on a remote device; a server that disappears meanwhile is an error.
///
/// # Errors
/// Those of `work`; [`Error::Device`] where the server was lost.
pub fn or_lost<T>(device: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    let _ = panic::take_hook();
    outcome.unwrap_or_else(|payload| {
        Err(Error::Device(format!(
            "{device}: the device was lost: {}; start its server again, and then this command, which \
             continues from its last checkpoint",
            one_line(&panics::message(&*payload))
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_no_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "short\n").unwrap();
        let message = token(Some(&file)).unwrap_err().to_string();
        assert!(message.contains("at least 16 characters, found 5"), "{message}");
        std::fs::write(&file, "  0123456789abcdef\n").unwrap();
        assert_eq!(token(Some(&file)).unwrap(), "0123456789abcdef");
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        let message = connect("localhost").unwrap_err().to_string();
        assert!(message.contains("expected HOST:PORT"), "{message}");
    }

    #[test]
    fn a_panic_is_a_lost_device() {
        let lost = or_lost("remote:gpu:1", || -> Result<()> { panic!("connection\nreset") });
        let message = lost.unwrap_err().to_string();
        assert!(
            message.starts_with("remote:gpu:1: the device was lost: connection reset"),
            "{message}"
        );
    }
}
