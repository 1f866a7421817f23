//! Sockets that accept: bound, taken over from the process before, added and removed while running.
//! It must not know what becomes of a connection; a closure takes each one.
//! `reload` prepares and commits them around each publication; `supervisor` drains them at the end.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pingora::server::{Fds, ListenFds};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::inherit;
use super::status::{BindState, ListenerState, Status};
use crate::snapshot::capture::How;
use crate::snapshot::incoming::{Clients, Incoming, Slot, Socket};
use crate::snapshot::listener::{Bind, Listener};
use crate::snapshot::Snapshot;

/// Takes an accepted connection.
pub type Handler = Arc<dyn Fn(Incoming) + Send + Sync>;

/// All bound listeners.
pub struct Listeners {
    handler: Handler,
    status: Arc<Status>,
    bound: Mutex<HashMap<Arc<str>, Bound>>,
    /// Sockets that the snapshot in force has not, but the one that may come back has.
    kept: Mutex<Vec<(Arc<str>, Bound)>>,
    leaving: Mutex<Vec<Arc<Slot>>>,
    table: Mutex<Option<ListenFds>>,
    inherited: Mutex<HashMap<String, OwnedFd>>,
}

struct Bound {
    bind: Bind,
    address: String,
    number: i32,
    slot: Arc<Slot>,
    drain: watch::Sender<bool>,
    /// Whether the socket takes connections for foreign addresses, which is settled before it is bound.
    is_transparent: bool,
}

impl Bound {
    /// Whether this is the socket of a listener: the same name at the same address.
    fn is_of(&self, name: &str, listener: &Listener) -> bool {
        *name == *listener.name
            && self.bind == listener.bind
            && self.is_transparent == is_transparent(listener)
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// New sockets, bound but not accepting yet.
pub struct Prepared(Vec<(Arc<Listener>, Acceptor, String)>);

impl Listeners {
    /// No listeners yet.
    pub fn new(handler: Handler, status: Arc<Status>) -> Arc<Listeners> {
        Arc::new(Listeners {
            handler,
            status,
            bound: Mutex::default(),
            kept: Mutex::default(),
            leaving: Mutex::default(),
            table: Mutex::default(),
            inherited: Mutex::default(),
        })
    }

    /// Takes over what the process before handed down, and remembers where to leave sockets for the next.
    pub fn inherit(&self, table: Option<ListenFds>) {
        let Some(table) = table else { return };
        let (names, numbers) = table.lock().serialize();
        let ours = names
            .into_iter()
            .zip(numbers)
            .filter(|(name, _)| name.contains(MARK));
        let adopted = ours.filter_map(|(name, number)| Some((name, inherit::adopt(number)?)));
        *lock(&self.inherited) = adopted.collect();
        *lock(&self.table) = Some(table);
    }

    /// Binds the sockets a snapshot has and the running listeners have not.
    ///
    /// # Errors
    /// Every listener that cannot be bound, with the system's reason.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<Prepared, Vec<String>> {
        let bound = lock(&self.bound);
        let kept = lock(&self.kept);
        let mut prepared = Vec::new();
        let mut problems = Vec::new();
        for listener in &snapshot.listeners {
            let mut all = bound
                .iter()
                .chain(kept.iter().map(|(name, one)| (name, one)));
            if all.any(|(name, one)| one.is_of(name, listener)) {
                continue;
            }
            // Two listeners that trade addresses would find each other's still in use.
            let taken = bound
                .iter()
                .find(|(name, bound)| **name != listener.name && bound.bind == listener.bind);
            match self.bind(listener) {
                Ok((acceptor, address)) => prepared.push((listener.clone(), acceptor, address)),
                Err(error) => {
                    let holder = taken.map_or(String::new(), |(name, _)| {
                        format!(" (listener \"{name}\" holds it)")
                    });
                    problems.push(format!(
                        "listener \"{}\": {} cannot be bound: {error}{holder}",
                        listener.name, listener.bind
                    ));
                }
            }
        }
        if problems.is_empty() {
            Ok(Prepared(prepared))
        } else {
            Err(problems)
        }
    }

    fn bind(&self, listener: &Listener) -> io::Result<(Acceptor, String)> {
        let inherited = lock(&self.inherited).remove(&key(&listener.name, &listener.bind));
        match &listener.bind {
            Bind::Tcp(address) => {
                let socket = match inherited {
                    Some(fd) => RawSocket::from(fd),
                    None => listen_tcp(*address, is_transparent(listener))?,
                };
                socket.set_nonblocking(true)?;
                let socket = TcpListener::from_std(socket.into())?;
                let address = socket.local_addr()?.to_string();
                Ok((Acceptor::Tcp(socket), address))
            }
            Bind::Unix(path) => {
                let socket: std::os::unix::net::UnixListener = match inherited {
                    Some(fd) => fd.into(),
                    None => listen_unix(path)?,
                };
                socket.set_nonblocking(true)?;
                Ok((
                    Acceptor::Unix(UnixListener::from_std(socket)?),
                    listener.bind.to_string(),
                ))
            }
        }
    }

    /// Starts what was prepared and drains what neither this snapshot has nor the one that may come back. Runs on the
    /// runtime that accepts.
    pub fn commit(&self, prepared: Prepared, snapshot: &Snapshot, fallback: Option<&Snapshot>) {
        let mut bound = lock(&self.bound);
        self.sort(&mut bound, snapshot, fallback);
        for (listener, acceptor, address) in prepared.0 {
            let (drain, draining) = watch::channel(false);
            let open = Arc::default();
            let slot = Arc::new(Slot {
                name: listener.name.clone(),
                open,
                clients: Clients::default(),
                drain: draining,
            });
            let number = match &acceptor {
                Acceptor::Tcp(socket) => socket.as_raw_fd(),
                Acceptor::Unix(socket) => socket.as_raw_fd(),
            };
            log::info!("listening: listener={} address={address}", listener.name);
            tokio::spawn(accept(acceptor, slot.clone(), self.handler.clone()));
            let one = Bound {
                bind: listener.bind.clone(),
                is_transparent: is_transparent(&listener),
                address,
                number,
                slot,
                drain,
            };
            bound.insert(listener.name.clone(), one);
        }
        self.leave_for_next(&bound);
        // What nobody claimed belongs to listeners the new configuration does not have.
        lock(&self.inherited).clear();
        self.report(&bound, snapshot);
    }

    /// Drains the sockets that were kept for a snapshot that will not come back.
    pub fn release(&self, snapshot: &Snapshot) {
        let mut bound = lock(&self.bound);
        self.sort(&mut bound, snapshot, None);
        self.report(&bound, snapshot);
    }

    /// Gives every socket its place: bound if the snapshot has it, kept if only the fallback has it, else leaving.
    fn sort(
        &self,
        bound: &mut HashMap<Arc<str>, Bound>,
        snapshot: &Snapshot,
        fallback: Option<&Snapshot>,
    ) {
        let mut kept = lock(&self.kept);
        let all: Vec<_> = bound.drain().chain(kept.drain(..)).collect();
        for (name, one) in all {
            let is_in = |snapshot: &Snapshot| {
                let listener = snapshot.listener(&name);
                listener.is_some_and(|listener| one.is_of(&name, listener))
            };
            if is_in(snapshot) {
                bound.insert(name, one);
            } else if fallback.is_some_and(is_in) {
                kept.push((name, one));
            } else {
                let _ = one.drain.send(true);
                lock(&self.leaving).push(one.slot);
            }
        }
    }

    /// Writes the table that a new process takes over. Sockets that closed must not stay in it.
    fn leave_for_next(&self, bound: &HashMap<Arc<str>, Bound>) {
        let Some(table) = lock(&self.table).clone() else {
            return;
        };
        let mut table = table.lock();
        let (names, numbers) = table.serialize();
        let mut fresh = Fds::new();
        let others = names
            .into_iter()
            .zip(numbers)
            .filter(|(name, _)| !name.contains(MARK));
        others.for_each(|(name, number)| fresh.add(name, number));
        for (name, one) in bound {
            fresh.add(key(name, &one.bind), one.number);
        }
        *table = fresh;
    }

    fn report(&self, bound: &HashMap<Arc<str>, Bound>, snapshot: &Snapshot) {
        let mut states: Vec<ListenerState> = snapshot
            .listeners
            .iter()
            .filter_map(|listener| {
                let one = bound.get(&listener.name)?;
                Some(ListenerState {
                    name: listener.name.clone(),
                    role: listener.role.as_str(),
                    protocol: listener.protocol.as_str(),
                    bind: one.address.clone(),
                    open: one.slot.open.clone(),
                    state: BindState::Listening,
                })
            })
            .collect();
        let kept = lock(&self.kept);
        states.extend(kept.iter().map(|(name, one)| ListenerState {
            name: name.clone(),
            role: "",
            protocol: "",
            bind: one.address.clone(),
            open: one.slot.open.clone(),
            state: BindState::Kept,
        }));
        let mut leaving = lock(&self.leaving);
        leaving.retain(|slot| slot.open.load(Relaxed) > 0);
        states.extend(leaving.iter().map(|slot| ListenerState {
            name: slot.name.clone(),
            role: "",
            protocol: "",
            bind: String::new(),
            open: slot.open.clone(),
            state: BindState::Draining,
        }));
        self.status.listeners.store(Arc::new(states));
    }

    /// Stops accepting everywhere and asks every connection to end after what is under way.
    pub fn drain(&self) {
        let (bound, kept) = (lock(&self.bound), lock(&self.kept));
        for one in bound.values().chain(kept.iter().map(|(_, one)| one)) {
            let _ = one.drain.send(true);
        }
    }

    /// Connections that are open, also of listeners that went away.
    pub fn open(&self) -> u32 {
        let (bound, kept) = (lock(&self.bound), lock(&self.kept));
        let leaving = lock(&self.leaving);
        let open = bound.values().chain(kept.iter().map(|(_, one)| one));
        let slots = open.map(|one| &one.slot).chain(leaving.iter());
        slots.map(|slot| slot.open.load(Relaxed)).sum()
    }

    /// Removes the files of Unix sockets; not when a new process took them over.
    pub fn remove_files(&self) {
        let (bound, kept) = (lock(&self.bound), lock(&self.kept));
        for one in bound.values().chain(kept.iter().map(|(_, one)| one)) {
            if let Bind::Unix(path) = &one.bind {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells our sockets from those of Pingora's own services in the hand-over table.
const MARK: char = '|';

fn key(name: &str, bind: &Bind) -> String {
    format!("{name}{MARK}{bind}")
}

fn is_transparent(listener: &Listener) -> bool {
    let capture = listener.capture.as_ref();
    capture.is_some_and(|capture| capture.how == How::Transparent)
}

fn listen_tcp(address: SocketAddr, is_transparent: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if is_transparent {
        match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

const BACKLOG: i32 = 4096;

/// A socket file left by a process that is gone is replaced; one that answers is in use.
fn listen_unix(path: &std::path::Path) -> io::Result<std::os::unix::net::UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    std::os::unix::net::UnixListener::bind(path)
}

async fn accept(acceptor: Acceptor, slot: Arc<Slot>, handler: Handler) {
    let mut drain = slot.drain.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = drain.wait_for(|drain| *drain) => return,
            accepted = acceptor.accept(&slot) => accepted,
        };
        match accepted {
            Ok(incoming) => handler(incoming),
            Err(error) => {
                log::error!(
                    "connections cannot be accepted: listener={} error=\"{error}\"",
                    slot.name
                );
                // Out of file descriptors: accepting again at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Acceptor {
    async fn accept(&self, slot: &Arc<Slot>) -> io::Result<Incoming> {
        match self {
            Acceptor::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                let _ = socket.set_nodelay(true);
                let local = socket.local_addr().unwrap_or(UNSPECIFIED);
                Ok(Incoming {
                    socket: Socket::Tcp(socket),
                    peer,
                    local,
                    slot: slot.clone(),
                })
            }
            Acceptor::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Ok(Incoming {
                    socket: Socket::Unix(socket),
                    peer,
                    local: UNSPECIFIED,
                    slot: slot.clone(),
                })
            }
        }
    }
}

const UNSPECIFIED: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
