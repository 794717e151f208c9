package compile

import "golang.org/x/sys/unix"

const fstatat = unix.SYS_FSTATAT

// struct stat in slots of eight bytes (newfstatat(2)).
const (
	statSlots = 16
	statMode  = 2 // low half
	statRdev  = 4
)
