package compile

import "golang.org/x/sys/unix"

const fstatat = unix.SYS_NEWFSTATAT

// struct stat in slots of eight bytes (newfstatat(2)).
const (
	statSlots = 18
	statMode  = 3 // low half
	statRdev  = 5
)
