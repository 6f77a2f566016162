//! The misbehaving kernels of the tests, as a program: `peer MANNER CONNECTION_FILE`.

#[path = "kernel.rs"]
mod kernel;
#[path = "zmtp.rs"]
mod zmtp;

use kernel::Manner;
use nb::protocol::connection_file::ConnectionFile;

pub(crate) fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [manner, file] = arguments.as_slice() else {
        panic!("usage: peer MANNER CONNECTION_FILE");
    };
    let manner = Manner::from_name(manner).expect("no such manner");
    let connection = std::fs::read(file).unwrap();
    kernel::serve(&ConnectionFile::decode(&connection).unwrap(), manner);
}
