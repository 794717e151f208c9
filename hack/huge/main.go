// Command huge copies an executable so that Linux can map it with huge pages: what is
// read-only in it is made to fill whole pages of 2 MiB, and the copy is written in pieces of
// that size, which is how a filesystem with large folios (ext4 since 6.16, XFS) keeps it in
// the page cache. The start of a process then takes two to four page faults where it took
// eighty. The executable must have been linked with -R 0x200000. A copy of a copy is the same.
//
// docs/adr/0011-one-processor.md has what it brings.
package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// page is the size of a huge page on amd64, and on arm64 with base pages of 4 KiB.
const page = 2 << 20

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: huge EXECUTABLE COPY")
		os.Exit(2)
	}
	if err := huge(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "huge:", err)
		os.Exit(1)
	}
}

func huge(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if data, err = fill(data); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	unfinished := to + ".new" // to may be running
	err = write(unfinished, data)
	if err == nil {
		err = os.Rename(unfinished, to)
	}
	if err != nil {
		os.Remove(unfinished)
	}
	return err
}

// fill extends the read-only segments of an executable to whole pages. They are followed by
// zeros, up to where the next one begins.
func fill(data []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if f.Class != elf.ELFCLASS64 || f.ByteOrder != binary.LittleEndian {
		return nil, errors.New("is no executable for 64 bits, least significant byte first")
	}
	headers := binary.LittleEndian.Uint64(data[32:]) // e_phoff
	for i, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_W != 0 {
			continue
		}
		size := (p.Filesz + page - 1) / page * page
		shared := p.Off%page != 0 || p.Vaddr%page != 0
		for _, next := range f.Progs {
			shared = shared || next.Type == elf.PT_LOAD && next.Off > p.Off && next.Off < p.Off+size
		}
		if shared {
			return nil, fmt.Errorf("the segment at offset %#x shares a page of %#x with another: link it with -R %#x", p.Off, page, page)
		}
		if end := int(p.Off + size); end > len(data) {
			data = append(data, make([]byte, end-len(data))...)
		}
		header := data[headers+uint64(i)*56:]            // Elf64_Phdr, elf(5)
		binary.LittleEndian.PutUint64(header[32:], size) // p_filesz
		binary.LittleEndian.PutUint64(header[40:], size) // p_memsz
	}
	return data, nil
}

// write writes one page a call, which becomes one folio.
func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	for len(data) > 0 && err == nil {
		n := min(page, len(data))
		_, err = f.Write(data[:n])
		data = data[n:]
	}
	if err == nil {
		err = f.Chmod(0o755) // whatever the umask
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
