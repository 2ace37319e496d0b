// In place of a build script that compiles C, which a guest does not have. The linker makes a trap of each missing function.
fn main() {}
