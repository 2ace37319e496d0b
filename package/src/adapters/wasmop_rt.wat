;; Turns the world's `read: func() -> list<u8>` into `read(dst, len, scratch)`.
;;
;; The canonical ABI lowers a list by calling an allocator. This module provides the allocator, which returns the buffer
;; of the guest. So no guest code runs while the host writes, and guests need no cabi_realloc. Guest code there could
;; start a garbage collection that calls an import, which traps.
;;
;; The two globals are used only during a call, so snapshots need not contain them.
(module
  (import "wasmop:controller/runtime@0.1.0" "read" (func $read (param i32)))
  (import "env" "memory" (memory 0))
  (global $dst (mut i32) (i32.const 0))
  (global $len (mut i32) (i32.const 0))

  ;; (old ptr, old size, align, new size)
  (func (export "cabi_import_realloc") (param i32 i32 i32 i32) (result i32)
    ;; A length other than the event's is a bug of the host. Never write past `len`.
    (if (i32.ne (local.get 3) (global.get $len)) (then (unreachable)))
    (global.get $dst))

  ;; `scratch` receives the list's pointer and length. The caller ignores them.
  (func (export "read") (param $dst i32) (param $len i32) (param $scratch i32)
    (global.set $dst (local.get $dst))
    (global.set $len (local.get $len))
    (call $read (local.get $scratch))))
