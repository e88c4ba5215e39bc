// Package arm runs one program on amd64 and, under emulation, on arm64, and
// compares what the two say of the same ledger.
package arm
