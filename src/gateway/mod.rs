//! The HTTP front that clients see: routes, identity, errors, the handover of WebSockets.
