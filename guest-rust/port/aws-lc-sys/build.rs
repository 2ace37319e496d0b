// In place of a build script that compiles C, which a guest does not have. A missing function traps.
// The declarations are those for another target with pointers of 32 bits.
fn main() {
    println!("cargo:rustc-cfg=i686_unknown_linux_gnu");
    println!("cargo:libcrypto=none");
    println!("cargo:include=none");
    println!("cargo:conf=");
}
