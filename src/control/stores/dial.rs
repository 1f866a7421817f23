//! Makes one connection to a store: socket, TLS, password, database, scripts, all within one time.
//! It must not decide when; `control::stores` does.
//! Sockets are made by `snapshot::own`, so that the process's own connections are known.

use std::pin::Pin;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::X509;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_openssl::SslStream;

use crate::snapshot::own;
use crate::snapshot::store::{shown, Address, Cell, Link, Script, Settings};

/// Connects a store and lets operations use it; returns what moves its bytes, which ends with the connection.
///
/// # Errors
/// What went wrong, without secrets.
pub(super) async fn connect(cell: &Cell) -> Result<JoinHandle<()>, String> {
    let settings = &cell.settings;
    let attempt = async {
        let stream = stream(settings).await?;
        let (connection, driver) = multiplexed(stream).await?;
        // Dropping it ends it, if what follows fails.
        let driver = Driver(driver);
        let scripts = introduce(settings, connection.clone()).await?;
        Ok((connection, driver, scripts))
    };
    let attempt = tokio::time::timeout(settings.connect_timeout, attempt);
    let (connection, driver, scripts) = attempt
        .await
        .unwrap_or_else(|_| Err("it did not answer within `connect_timeout`".to_owned()))?;
    let driver = driver.keep();
    cell.connected(Link {
        connection,
        scripts,
        driver: driver.abort_handle(),
    });
    Ok(driver)
}

/// A task that ends with its handle, unless it is kept.
struct Driver(JoinHandle<()>);

impl Driver {
    fn keep(mut self) -> JoinHandle<()> {
        std::mem::replace(&mut self.0, tokio::spawn(async {}))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytes for S {}

async fn stream(settings: &Settings) -> Result<Pin<Box<dyn Bytes>>, String> {
    match &settings.address {
        Address::Tcp {
            host, port, tls, ..
        } => {
            let authority = settings.address.to_string();
            debug_assert!(authority.ends_with(&port.to_string()));
            let stream = own::connect_to(&authority, None).await;
            let stream = stream.map_err(|error| error.to_string())?;
            // Commands are small, and somebody waits for each.
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            match tls {
                true => Ok(Box::pin(secured(settings, host, stream).await?)),
                false => Ok(Box::pin(stream)),
            }
        }
        Address::Unix { path, .. } => {
            let stream = UnixStream::connect(path).await;
            Ok(Box::pin(stream.map_err(|error| error.to_string())?))
        }
    }
}

/// TLS, with the server's certificate and name verified.
async fn secured(
    settings: &Settings,
    host: &str,
    stream: TcpStream,
) -> Result<SslStream<TcpStream>, String> {
    let ssl = || {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_verify(SslVerifyMode::PEER);
        if let Some(pem) = &settings.ca {
            let mut store = X509StoreBuilder::new()?;
            for authority in X509::stack_from_pem(pem)? {
                store.add_cert(authority)?;
            }
            builder.set_verify_cert_store(store.build())?;
        }
        builder.build().configure()?.into_ssl(host)
    };
    let ssl = ssl().map_err(|error| error.to_string())?;
    let mut secured = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
    let shaken = Pin::new(&mut secured).connect().await;
    shaken.map_err(|error| {
        let verified = secured.ssl().verify_result();
        match verified == openssl::x509::X509VerifyResult::OK {
            true => format!("the TLS handshake failed: {error}"),
            false => format!("its certificate is refused: {}", verified.error_string()),
        }
    })?;
    Ok(secured)
}

/// Commands of many over one stream. Times are ours to keep, not the crate's.
async fn multiplexed(
    stream: Pin<Box<dyn Bytes>>,
) -> Result<(MultiplexedConnection, JoinHandle<()>), String> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let made =
        MultiplexedConnection::new_with_config(&RedisConnectionInfo::default(), stream, config)
            .await;
    let (connection, driver) = made.map_err(|error| shown(&error))?;
    Ok((connection, tokio::spawn(driver)))
}

/// Says who we are, chooses the database, and leaves our scripts there.
async fn introduce(
    settings: &Settings,
    mut connection: MultiplexedConnection,
) -> Result<[String; 3], String> {
    if let Some(password) = &settings.password {
        let mut auth = redis::cmd("AUTH");
        if let Some(username) = &settings.username {
            auth.arg(username);
        }
        auth.arg(password.as_str());
        ask(&mut connection, &auth).await?;
    }
    let database = settings.address.database();
    if database > 0 {
        ask(&mut connection, redis::cmd("SELECT").arg(database)).await?;
    }
    let mut names: [String; 3] = Default::default();
    for (name, script) in names.iter_mut().zip(Script::ALL) {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script.text());
        *name = match ask(&mut connection, &load).await? {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::SimpleString(text) => text,
            _ => return Err("it answered SCRIPT LOAD with something else than a name".to_owned()),
        };
    }
    Ok(names)
}

async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, String> {
    match connection.send_packed_command(command).await {
        Ok(Value::ServerError(error)) => Err(shown(&error.into())),
        Ok(value) => Ok(value),
        Err(error) => Err(shown(&error)),
    }
}
