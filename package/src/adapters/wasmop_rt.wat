;; Turns the world's `read: func() -> list<u8>` into `read(dst, len, scratch)`.
;;
;; The list is lowered by calling an allocator. Here that allocator is this module's and returns
;; the buffer the guest passed in, so no guest code runs while the host is writing (a garbage
;; collector there would call an import, which traps) and a guest exports no cabi_realloc.
;;
;; The two globals live only during the call: they are no state that a snapshot would have to hold.
(module
  (import "wasmop:controller/runtime@0.1.0" "read" (func $read (param i32)))
  (import "env" "memory" (memory 0))
  (global $dst (mut i32) (i32.const 0))
  (global $len (mut i32) (i32.const 0))

  ;; (old ptr, old size, align, new size)
  (func (export "cabi_import_realloc") (param i32 i32 i32 i32) (result i32)
    ;; The host gave another length than the event's: a bug there, never to be written past `len`.
    (if (i32.ne (local.get 3) (global.get $len)) (then (unreachable)))
    (global.get $dst))

  ;; `scratch` takes the list's pointer and length, which the caller knows already.
  (func (export "read") (param $dst i32) (param $len i32) (param $scratch i32)
    (global.set $dst (local.get $dst))
    (global.set $len (local.get $len))
    (call $read (local.get $scratch))))
