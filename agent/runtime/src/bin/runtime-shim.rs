//! The shim as a program of its own, for this crate's tests.

fn main() {
    std::process::exit(runtime::shim_main(std::env::args_os().skip(1)));
}
