//! What Envoy 1.36 and later offer to a module of ABI 0.2.1. A module that imports anything else
//! does not load.

use wasmtime::{Error, Linker, Module, Result};

use super::Host;

/// Module `env`.
pub const HOST_FUNCTIONS: [&str; 39] = [
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_close_stream",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_get_buffer_bytes",
    "proxy_get_buffer_status",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_size",
    "proxy_get_header_map_value",
    "proxy_get_log_level",
    "proxy_get_metric",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_register_shared_queue",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_resolve_shared_queue",
    "proxy_send_local_response",
    "proxy_set_buffer_bytes",
    "proxy_set_effective_context",
    "proxy_set_header_map_pairs",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
];

/// Module `wasi_snapshot_preview1`.
pub const WASI_FUNCTIONS: [&str; 17] = [
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_read",
    "fd_seek",
    "fd_write",
    "path_open",
    "poll_oneoff",
    "proc_exit",
    "random_get",
    "sched_yield",
];

pub fn is_offered(module: &str, name: &str) -> bool {
    match module {
        "env" => HOST_FUNCTIONS.contains(&name),
        "wasi_snapshot_preview1" => WASI_FUNCTIONS.contains(&name),
        _ => false,
    }
}

/// Links every function that Envoy offers and the module imports to a trap. The SDK imports many
/// that mtls-watch has no business with; linking them is harmless, calling one is not.
pub fn forbid(linker: &mut Linker<Host>, module: &Module) -> Result<()> {
    for import in module.imports() {
        let name = import.name().to_owned();
        if let (true, Some(kind)) = (is_offered(import.module(), &name), import.ty().func()) {
            let message = format!("{name} is not for mtls-watch to call");
            linker.func_new(import.module(), &name, kind.clone(), move |_, _, _| {
                Err(Error::msg(message.clone()))
            })?;
        }
    }
    Ok(())
}
