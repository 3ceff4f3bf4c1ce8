//! Protobuf messages of every wire format, from our own .proto files.
