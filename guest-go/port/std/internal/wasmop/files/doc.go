// Package files is a file system in memory, for programs that write temporary files or read those of a Pod.
//
// It has the operations of WASI preview 1, on which package syscall builds its own. The files are part of the
// program's memory: a suspend keeps them, and a new start of the program begins without them.
package files
