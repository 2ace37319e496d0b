;; Implements WASI preview 1 with `wasmop:controller/sys`.
;;
;; The module has no state: no globals, no own memory and no handles. So the whole state of a guest is in its memory and
;; globals, and another process can resume it. There are no files or sockets.
;;
;; Errno: 0 success, 8 EBADF, 28 EINVAL, 44 ENOENT, 52 ENOSYS.
(module
  (import "wasmop:controller/sys@0.1.0" "log"
    (func $log (param $level i32) (param $target i32) (param $target-len i32) (param $message i32) (param $message-len i32) (param $fields i32) (param $fields-len i32)))
  (import "wasmop:controller/sys@0.1.0" "now" (func $now (result i64)))
  (import "wasmop:controller/sys@0.1.0" "monotonic" (func $monotonic (result i64)))
  (import "wasmop:controller/sys@0.1.0" "random" (func $random (result i64)))
  (import "wasmop:controller/sys@0.1.0" "park" (func $park (param i64)))
  (import "wasmop:controller/sys@0.1.0" "startup-size" (func $startup_size (param $strings i32) (result i64)))
  (import "wasmop:controller/sys@0.1.0" "startup-bytes" (func $startup_bytes (param $strings i32) (param $offset i32) (result i64)))
  (import "env" "memory" (memory 0))

  ;; ---- output: stdout and stderr are byte streams to the log ----

  ;; Each iovec becomes log messages with the target "stdout" or "stderr". The messages include line breaks, because
  ;; programs often write a line in pieces. The host joins the pieces.
  (func (export "fd_write") (param $fd i32) (param $iov i32) (param $count i32) (param $written i32) (result i32)
    (local $total i32) (local $len i32)
    (if (i32.gt_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1)) (then (return (i32.const 8))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $len (i32.load offset=4 (local.get $iov)))
        (if (local.get $len) (then (call $piece (local.get $fd) (local.get $iov))))
        (local.set $total (i32.add (local.get $total) (local.get $len)))
        (local.set $iov (i32.add (local.get $iov) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $written) (local.get $total))
    (i32.const 0))

  ;; Logs one iovec. The target's name needs an address, but this module has no memory. So the name overwrites the eight
  ;; bytes of the iovec, which are restored at the end. A message that is not UTF-8 would trap, so each invalid byte is
  ;; logged as "?".
  (func $piece (param $fd i32) (param $iov i32)
    (local $saved i64) (local $at i32) (local $len i32) (local $valid i32)
    (local.set $saved (i64.load align=4 (local.get $iov)))
    (local.set $at (i32.load (local.get $iov)))
    (local.set $len (i32.load offset=4 (local.get $iov)))
    ;; "stdout?" and "stderr?", little-endian
    (i64.store align=4 (local.get $iov)
      (select (i64.const 0x003f74756f647473) (i64.const 0x003f727265647473) (i32.eq (local.get $fd) (i32.const 1))))
    (loop $more
      (local.set $valid (call $utf8_prefix (local.get $at) (local.get $len)))
      (if (local.get $valid)
        (then (call $log (i32.const 2) (local.get $iov) (i32.const 6) (local.get $at) (local.get $valid) (i32.const 0) (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (local.get $valid)))
      (local.set $len (i32.sub (local.get $len) (local.get $valid)))
      (if (local.get $len)
        (then
          (call $log (i32.const 2) (local.get $iov) (i32.const 6) (i32.add (local.get $iov) (i32.const 6)) (i32.const 1) (i32.const 0) (i32.const 0))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $len (i32.sub (local.get $len) (i32.const 1)))
          (br_if $more (local.get $len)))))
    (i64.store align=4 (local.get $iov) (local.get $saved)))

  ;; Returns the length of the longest prefix in UTF-8 (Unicode 15, table 3-7).
  (func $utf8_prefix (param $at i32) (param $len i32) (result i32)
    (local $i i32) (local $byte i32) (local $need i32) (local $low i32) (local $high i32)
    (block $stop
      (loop $next
        (br_if $stop (i32.eq (local.get $i) (local.get $len)))
        ;; eight ASCII bytes at once
        (if (i32.ge_u (i32.sub (local.get $len) (local.get $i)) (i32.const 8))
          (then
            (if (i64.eqz (i64.and (i64.load align=1 (i32.add (local.get $at) (local.get $i))) (i64.const 0x8080808080808080)))
              (then
                (local.set $i (i32.add (local.get $i) (i32.const 8)))
                (br $next)))))
        (local.set $byte (i32.load8_u (i32.add (local.get $at) (local.get $i))))
        (if (i32.lt_u (local.get $byte) (i32.const 0x80))
          (then
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        (br_if $stop (i32.lt_u (local.get $byte) (i32.const 0xc2)))
        (br_if $stop (i32.gt_u (local.get $byte) (i32.const 0xf4)))
        ;; range of the second byte, and how many follow the first
        (local.set $low (i32.const 0x80))
        (local.set $high (i32.const 0xbf))
        (local.set $need (i32.add (i32.const 1)
          (i32.add (i32.ge_u (local.get $byte) (i32.const 0xe0)) (i32.ge_u (local.get $byte) (i32.const 0xf0)))))
        (if (i32.eq (local.get $byte) (i32.const 0xe0)) (then (local.set $low (i32.const 0xa0))))
        (if (i32.eq (local.get $byte) (i32.const 0xed)) (then (local.set $high (i32.const 0x9f))))
        (if (i32.eq (local.get $byte) (i32.const 0xf0)) (then (local.set $low (i32.const 0x90))))
        (if (i32.eq (local.get $byte) (i32.const 0xf4)) (then (local.set $high (i32.const 0x8f))))
        (br_if $stop (i32.ge_u (local.get $need) (i32.sub (local.get $len) (local.get $i))))
        (local.set $byte (i32.load8_u offset=1 (i32.add (local.get $at) (local.get $i))))
        (br_if $stop (i32.lt_u (local.get $byte) (local.get $low)))
        (br_if $stop (i32.gt_u (local.get $byte) (local.get $high)))
        (if (i32.ge_u (local.get $need) (i32.const 2))
          (then (br_if $stop (i32.ne (i32.const 0x80)
            (i32.and (i32.load8_u offset=2 (i32.add (local.get $at) (local.get $i))) (i32.const 0xc0))))))
        (if (i32.eq (local.get $need) (i32.const 3))
          (then (br_if $stop (i32.ne (i32.const 0x80)
            (i32.and (i32.load8_u offset=3 (i32.add (local.get $at) (local.get $i))) (i32.const 0xc0))))))
        (local.set $i (i32.add (i32.add (local.get $i) (local.get $need)) (i32.const 1)))
        (br $next)))
    (local.get $i))

  ;; ---- clocks, random numbers, waiting ----

  (func $clock (param $id i32) (result i64)
    ;; 0 is the wall clock, 1 the monotonic clock. 2 and 3 are CPU clocks, which return the monotonic time.
    (if (result i64) (i32.eqz (local.get $id)) (then (call $now)) (else (call $monotonic))))

  (func (export "clock_time_get") (param $id i32) (param $precision i64) (param $out i32) (result i32)
    (if (i32.gt_u (local.get $id) (i32.const 3)) (then (return (i32.const 28))))
    (i64.store (local.get $out) (call $clock (local.get $id)))
    (i32.const 0))

  (func (export "clock_res_get") (param $id i32) (param $out i32) (result i32)
    (if (i32.gt_u (local.get $id) (i32.const 3)) (then (return (i32.const 28))))
    (i64.store (local.get $out) (i64.const 1))
    (i32.const 0))

  (func (export "random_get") (param $at i32) (param $len i32) (result i32)
    (local $bits i64) (local $left i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $len)))
        (if (i32.eqz (local.get $left))
          (then
            (local.set $bits (call $random))
            (local.set $left (i32.const 8))))
        (i64.store8 (local.get $at) (local.get $bits))
        (local.set $bits (i64.shr_u (local.get $bits) (i64.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $len (i32.sub (local.get $len) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; A guest never blocks within a step. The earliest clock subscription becomes the deadline with which the instance
  ;; parks, and all subscriptions are reported as ready immediately.
  ;; Subscription, 48 bytes: userdata u64 @0, tag u8 @8 (0 clock), clock id u32 @16,
  ;; timeout u64 @24, precision u64 @32, flags u16 @40 (bit 0: absolute).
  ;; Event, 32 bytes: userdata u64 @0, errno u16 @8, type u8 @10, nbytes u64 @16, flags u16 @24.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $count i32) (param $ready i32) (result i32)
    (local $left i32) (local $timeout i64) (local $clock i64) (local $earliest i64) (local $found i32) (local $tag i32)
    (if (i32.eqz (local.get $count)) (then (return (i32.const 28))))
    (local.set $left (local.get $count))
    (loop $next
      (local.set $tag (i32.load8_u offset=8 (local.get $in)))
      (if (i32.eqz (local.get $tag))
        (then
          (local.set $timeout (i64.load offset=24 (local.get $in)))
          (if (i32.and (i32.load16_u offset=40 (local.get $in)) (i32.const 1))
            (then
              (local.set $clock (call $clock (i32.load offset=16 (local.get $in))))
              (local.set $timeout (select
                (i64.sub (local.get $timeout) (local.get $clock))
                (i64.const 0)
                (i64.gt_u (local.get $timeout) (local.get $clock))))))
          (if (i32.or (i32.eqz (local.get $found)) (i64.lt_u (local.get $timeout) (local.get $earliest)))
            (then
              (local.set $earliest (local.get $timeout))
              (local.set $found (i32.const 1))))))
      (i64.store (local.get $out) (i64.load (local.get $in)))
      (i64.store offset=8 (local.get $out) (i64.shl (i64.extend_i32_u (local.get $tag)) (i64.const 16)))
      (i64.store offset=16 (local.get $out) (i64.const 0))
      (i64.store offset=24 (local.get $out) (i64.const 0))
      (local.set $in (i32.add (local.get $in) (i32.const 48)))
      (local.set $out (i32.add (local.get $out) (i32.const 32)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (if (local.get $found) (then (call $park (local.get $earliest))))
    (i32.store (local.get $ready) (local.get $count))
    (i32.const 0))

  (func (export "sched_yield") (result i32) (i32.const 0))
  ;; Exiting is a failure of the controller. The host handles it like any other trap.
  (func (export "proc_exit") (param i32) (unreachable))
  (func (export "proc_raise") (param i32) (result i32) (unreachable))

  ;; ---- arguments, preceded by the program name "wasmop", and environment ----

  ;; Copies the host's NUL-terminated strings to $buffer and the address of each to $pointers.
  (func $copy_startup (param $strings i32) (param $pointers i32) (param $buffer i32)
    (local $size i32) (local $offset i32) (local $bits i64) (local $begins i32)
    (local.set $size (i32.wrap_i64 (call $startup_size (local.get $strings))))
    (local.set $begins (i32.const 1))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $offset) (local.get $size)))
        (if (i32.eqz (i32.and (local.get $offset) (i32.const 7)))
          (then (local.set $bits (call $startup_bytes (local.get $strings) (local.get $offset)))))
        (if (local.get $begins)
          (then
            (i32.store (local.get $pointers) (i32.add (local.get $buffer) (local.get $offset)))
            (local.set $pointers (i32.add (local.get $pointers) (i32.const 4)))))
        (i64.store8 (i32.add (local.get $buffer) (local.get $offset)) (local.get $bits))
        (local.set $begins (i64.eqz (i64.and (local.get $bits) (i64.const 0xff))))
        (local.set $bits (i64.shr_u (local.get $bits) (i64.const 8)))
        (local.set $offset (i32.add (local.get $offset) (i32.const 1)))
        (br $next))))

  ;; The program name is always present. For example, klog indexes os.Args[0] before main.
  (func (export "args_sizes_get") (param $count i32) (param $size i32) (result i32)
    (local $both i64)
    (local.set $both (call $startup_size (i32.const 0)))
    (i32.store (local.get $count) (i32.add (i32.wrap_i64 (i64.shr_u (local.get $both) (i64.const 32))) (i32.const 1)))
    (i32.store (local.get $size) (i32.add (i32.wrap_i64 (local.get $both)) (i32.const 7)))
    (i32.const 0))
  (func (export "args_get") (param $argv i32) (param $buffer i32) (result i32)
    (i32.store (local.get $argv) (local.get $buffer))
    ;; "wasm" "op" NUL
    (i32.store align=1 (local.get $buffer) (i32.const 0x6d736177))
    (i32.store16 offset=4 align=1 (local.get $buffer) (i32.const 0x706f))
    (i32.store8 offset=6 (local.get $buffer) (i32.const 0))
    (call $copy_startup (i32.const 0) (i32.add (local.get $argv) (i32.const 4)) (i32.add (local.get $buffer) (i32.const 7)))
    (i32.const 0))
  (func (export "environ_sizes_get") (param $count i32) (param $size i32) (result i32)
    (local $both i64)
    (local.set $both (call $startup_size (i32.const 1)))
    (i32.store (local.get $count) (i32.wrap_i64 (i64.shr_u (local.get $both) (i64.const 32))))
    (i32.store (local.get $size) (i32.wrap_i64 (local.get $both)))
    (i32.const 0))
  (func (export "environ_get") (param $environ i32) (param $buffer i32) (result i32)
    (call $copy_startup (i32.const 1) (local.get $environ) (local.get $buffer))
    (i32.const 0))

  ;; ---- file descriptors: only 0, 1 and 2 exist, as character devices ----

  (func $standard (param $fd i32) (result i32)
    (select (i32.const 8) (i32.const 0) (i32.gt_u (local.get $fd) (i32.const 2))))

  (func (export "fd_fdstat_get") (param $fd i32) (param $out i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (i32.const 8))))
    (i64.store (local.get $out) (i64.const 2)) ;; character device, no flags
    (i64.store offset=8 (local.get $out) (select (i64.const 0x40) (i64.const 0x2) (local.get $fd))) ;; may write / may read
    (i64.store offset=16 (local.get $out) (i64.const 0))
    (i32.const 0))
  (func (export "fd_filestat_get") (param $fd i32) (param $out i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (i32.const 8))))
    (memory.fill (local.get $out) (i32.const 0) (i32.const 64))
    (i32.store8 offset=16 (local.get $out) (i32.const 2))
    (i32.const 0))
  ;; Standard input is at its end.
  (func (export "fd_read") (param $fd i32) (param $iov i32) (param $count i32) (param $read i32) (result i32)
    (if (local.get $fd) (then (return (i32.const 8))))
    (i32.store (local.get $read) (i32.const 0))
    (i32.const 0))
  (func (export "fd_close") (param $fd i32) (result i32) (call $standard (local.get $fd)))
  (func (export "fd_fdstat_set_flags") (param $fd i32) (param i32) (result i32) (call $standard (local.get $fd)))
  (func (export "fd_sync") (param $fd i32) (result i32) (call $standard (local.get $fd)))
  (func (export "fd_datasync") (param $fd i32) (result i32) (call $standard (local.get $fd)))
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_renumber") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_tell") (param i32 i32) (result i32) (i32.const 8))

  ;; ---- paths and sockets: none ----

  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 44))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 44))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (i32.const 44))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (i32.const 52))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (i32.const 52)))
