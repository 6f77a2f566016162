//! The serving side of ZMTP 3.0 with the NULL mechanism, blocking and by hand: a second opinion on the
//! wire beside the crate that `nb` uses, and able to break its rules.
//!
//! Knows frames and nothing of what they carry. Its writes wait for the peer and drop nothing.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

const GREETING_BYTES: usize = 64;

pub(crate) type Input = BufReader<Box<dyn Read + Send>>;
pub(crate) type Output = BufWriter<Box<dyn Write + Send>>;

pub(crate) enum Listener {
    Ipc(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Binds an endpoint as connection files name it.
    pub(crate) fn bind(endpoint: &str) -> io::Result<Self> {
        match endpoint.split_once("://") {
            Some(("ipc", path)) => Ok(Self::Ipc(UnixListener::bind(path)?)),
            Some(("tcp", address)) => Ok(Self::Tcp(TcpListener::bind(address)?)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The next peer, after the handshake but for our READY.
    pub(crate) fn accept(&self) -> io::Result<(Input, Output)> {
        let (input, output): (Box<dyn Read + Send>, Box<dyn Write + Send>) = match self {
            Self::Ipc(listener) => {
                let (stream, _) = listener.accept()?;
                let reader: UnixStream = stream.try_clone()?;
                (Box::new(reader), Box::new(stream))
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let reader: TcpStream = stream.try_clone()?;
                (Box::new(reader), Box::new(stream))
            }
        };
        let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
        let mut greeting = [0; GREETING_BYTES];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        output.write_all(&greeting)?;
        output.flush()?;
        input.read_exact(&mut greeting)?;
        read_frame(&mut input)?;
        Ok((input, output))
    }
}

/// Ends the handshake: from now on the peer may be sent messages.
pub(crate) fn ready(output: &mut Output, socket_type: &str) -> io::Result<()> {
    let mut command = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    command.push(u8::try_from(socket_type.len()).unwrap());
    command.extend_from_slice(socket_type.as_bytes());
    write_frame(output, COMMAND, &command)?;
    output.flush()
}

/// The next message; commands are passed over.
pub(crate) fn read(input: &mut Input) -> io::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    loop {
        let (flags, frame) = read_frame(input)?;
        if flags & COMMAND == 0 {
            frames.push(frame);
            if flags & MORE == 0 {
                return Ok(frames);
            }
        }
    }
}

/// Writes a message without flushing.
pub(crate) fn write(output: &mut Output, frames: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let (last, most) = frames.split_last().unwrap();
    for frame in most {
        write_frame(output, MORE, frame.as_ref())?;
    }
    write_frame(output, 0, last.as_ref())
}

/// Announces a frame of this size and sends nothing of it.
pub(crate) fn announce(output: &mut Output, bytes: u64) -> io::Result<()> {
    output.write_all(&[LONG])?;
    output.write_all(&bytes.to_be_bytes())?;
    output.flush()
}

fn read_frame(input: &mut Input) -> io::Result<(u8, Vec<u8>)> {
    let mut flags = [0];
    input.read_exact(&mut flags)?;
    let mut size = [0; 8];
    if flags[0] & LONG == 0 {
        input.read_exact(&mut size[7..])?;
    } else {
        input.read_exact(&mut size)?;
    }
    let mut frame = vec![0; usize::try_from(u64::from_be_bytes(size)).unwrap()];
    input.read_exact(&mut frame)?;
    Ok((flags[0], frame))
}

fn write_frame(output: &mut Output, flags: u8, frame: &[u8]) -> io::Result<()> {
    match u8::try_from(frame.len()) {
        Ok(size) => output.write_all(&[flags, size])?,
        Err(_) => {
            output.write_all(&[flags | LONG])?;
            output.write_all(&(frame.len() as u64).to_be_bytes())?;
        }
    }
    output.write_all(frame)
}
