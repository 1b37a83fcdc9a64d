//! The numbers that Envoy gives to contexts, each kind of its own type.

/// An HTTP stream or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct StreamId(pub(crate) u32);

/// A plugin configuration: the root context of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct RootId(pub(crate) u32);
