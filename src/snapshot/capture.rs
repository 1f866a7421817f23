//! How a listener takes connections that were made for somebody else: where they were going is asked of the kernel.
//! It must not know the rules that bring such connections here, nor sockets.
//! Part of a listener; built by `config::compile`, read by `control::listeners` (for the socket) and `proxy::capture`.

/// How captured connections reach a listener's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Their destination was rewritten (REDIRECT); the kernel remembers the original one.
    Redirect,
    /// They came as they are (TPROXY); the socket's own address is the original destination.
    Transparent,
}

impl How {
    /// The word in YAML and views.
    pub fn as_str(self) -> &'static str {
        match self {
            How::Redirect => "redirect",
            How::Transparent => "tproxy",
        }
    }
}

/// What a capturing listener does.
#[derive(Debug, Clone, PartialEq)]
pub struct Capture {
    /// How connections come.
    pub how: How,
}
