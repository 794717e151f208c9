package engine

import (
	"bytes"
	"unsafe"
)

// interp is the interpreter's first instruction; it cannot be called.
//
//lint:ignore U1000 the assembly names it
func interp()

// interpPC returns interp's address.
func interpPC() uintptr

// maxText bounds the search for the marker behind the interpreter.
const maxText = 1024

// interpText returns the interpreter's machine code, which is read-only memory of
// this process.
func interpText() []byte {
	pc := interpPC()
	text := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&pc))), maxText)
	return text[:max(bytes.Index(text, []byte("adl-end\x00")), 0)]
}
