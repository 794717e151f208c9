package engine

import (
	"encoding/binary"
	"fmt"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// The layout of the executable; the interpreters know opsOffset.
const (
	imageBase   = 0x400000
	textOffset  = 64 + 2*56 // behind the ELF header and two program headers
	opsOffset   = 0x400
	opSize      = 64
	machineX86  = 62
	machineARM  = 183
	stackHeader = 0x6474e551 // PT_GNU_STACK
)

// encode returns the ELF executable that runs p on this architecture.
func encode(p *program.Program) ([]byte, error) {
	text := interpText()
	if len(text) > opsOffset-textOffset {
		return nil, fmt.Errorf("engine: the interpreter has %d bytes, %d fit", len(text), opsOffset-textOffset)
	}
	dataOffset := opsOffset + opSize*len(p.Ops)
	image := make([]byte, dataOffset+len(p.Data))
	header(image)
	copy(image[textOffset:], text)
	for i := range p.Ops {
		encodeOp(image[opsOffset+opSize*i:], p, &p.Ops[i], imageBase+uint64(dataOffset))
	}
	data := image[dataOffset:]
	copy(data, p.Data)
	for _, r := range p.Relocs {
		binary.NativeEndian.PutUint64(data[r.At:], imageBase+uint64(dataOffset)+uint64(r.To))
	}
	return image, nil
}

// header writes the ELF header and the program headers (elf(5)): one segment
// that is the whole file, and a stack that is not executable.
func header(image []byte) {
	le := binary.LittleEndian
	copy(image, "\x7fELF\x02\x01\x01")
	le.PutUint16(image[16:], 2) // ET_EXEC
	le.PutUint16(image[18:], machine)
	le.PutUint32(image[20:], 1)
	le.PutUint64(image[24:], imageBase+textOffset)
	le.PutUint64(image[32:], 64) // program headers
	le.PutUint16(image[52:], 64)
	le.PutUint16(image[54:], 56)
	le.PutUint16(image[56:], 2)
	load, stack := image[64:], image[64+56:]
	le.PutUint32(load, 1)     // PT_LOAD
	le.PutUint32(load[4:], 5) // PF_R|PF_X
	le.PutUint64(load[16:], imageBase)
	le.PutUint64(load[24:], imageBase)
	le.PutUint64(load[32:], uint64(len(image)))
	le.PutUint64(load[40:], uint64(len(image)))
	le.PutUint64(load[48:], 0x1000)
	le.PutUint32(stack, stackHeader)
	le.PutUint32(stack[4:], 6) // PF_R|PF_W
	le.PutUint64(stack[48:], 16)
}

// encodeOp writes op as the interpreter reads it. Addresses of data and numbers of
// inherited descriptors become immediates here.
func encodeOp(to []byte, p *program.Program, op *program.Op, dataBase uint64) {
	ne := binary.NativeEndian
	var kinds uint16
	for n, a := range op.Args {
		v := a.Val
		switch a.Kind {
		case program.Data:
			v += dataBase
		case program.File:
			v += uint64(p.FirstFile)
		case program.SlotVal:
			kinds |= 1 << (2 * n)
			v *= 8
		case program.SlotAddr:
			kinds |= 2 << (2 * n)
			v *= 8
		}
		ne.PutUint64(to[16+8*n:], v)
	}
	ne.PutUint16(to, uint16(op.Call))
	ne.PutUint16(to[2:], kinds)
	ne.PutUint16(to[4:], uint16(op.Dst)*8)
	ne.PutUint16(to[6:], uint16(op.Tolerate[0].Errno))
	ne.PutUint16(to[8:], uint16(op.Tolerate[1].Errno))
	ne.PutUint16(to[10:], op.Skip)
	ne.PutUint16(to[12:], op.Tolerate[0].Skip)
	ne.PutUint16(to[14:], op.Tolerate[1].Skip)
}
