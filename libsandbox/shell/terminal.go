package shell

import "os"

// console is the master of the shell's terminal.
func (s *Session) console() (*os.File, error) {
	return nil, errNoTerminal
}
