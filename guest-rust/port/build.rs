// In place of a build script that compiles C, which a guest does not have. A missing function traps.
fn main() {}
