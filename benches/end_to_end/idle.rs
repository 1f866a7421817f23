//! Memory of idle connections: how much resident memory grows when many clients made one request and stay.
//! It must not measure the sockets themselves, which the kernel holds outside the process.
//! Called by the bench with fresh processes.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::load::Case;
use super::peers::Proxy;

/// Bytes for each of `count` idle connections.
pub(crate) fn bytes_per_connection(
    proxy: &Proxy,
    folder: &Path,
    count: usize,
) -> Result<f64, Box<dyn Error>> {
    // Memory that any traffic makes the process take is not the connections'.
    Case::SmallGet.run(proxy, folder, 1)?;
    std::thread::sleep(SETTLE);
    let before = proxy.process.resident();
    let connections: Vec<TcpStream> = (0..count)
        .map(|_| asked_once(proxy.plain))
        .collect::<Result<_, _>>()?;
    std::thread::sleep(SETTLE);
    let grown = proxy.process.resident().saturating_sub(before);
    drop(connections);
    Ok(grown as f64 / count as f64)
}

fn asked_once(port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: h0.example.com\r\n\r\n")?;
    // The small answer comes in one or two packets and ends with this line.
    let mut answer = Vec::new();
    while !answer.ends_with(super::peers::SMALL.as_bytes()) {
        let mut piece = [0; 1024];
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok(stream)
}

const SETTLE: Duration = Duration::from_secs(1);
