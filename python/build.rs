//! How the extension module is linked.

fn main() {
    // Functions with the same code are kept once: the generics of DataFusion and Arrow make many.
    // Rust links with its own lld on this target; other linkers may not know the option.
    let target = std::env::var("TARGET").unwrap_or_default();
    if target == "x86_64-unknown-linux-gnu" {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--icf=all");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
