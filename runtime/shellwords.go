package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/holder"
	"adl.run/adl-runtime/libsandbox/shell"
)

// shellWord does what the verb's words ask for. None of them starts a holder.
func (a *app) shellWord(c *cli.Context, word string) error {
	args := c.Args().Tail()
	least, most, more := 1, 1, ""
	switch word {
	case "stop":
		most, more = 2, " [<session>]"
	case "output", "wait":
		least, most, more = 2, 2, " <job>"
	case "signal":
		least, most, more = 2, 3, " <job> [<signal>]"
	}
	if len(args) < least || len(args) > most {
		return fmt.Errorf("%s: its arguments are <container-id>%s", word, more)
	}
	if f := c.String("format"); f != "table" && f != "json" {
		return fmt.Errorf("--format %q: must be table or json", f)
	}
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	h, err := store.DialShells(args[0], nil)
	if err != nil {
		return err
	}
	if h == nil {
		return a.noHolder(c, word)
	}
	defer h.Close()
	switch word {
	case "list":
		all, err := h.Sessions()
		if err != nil {
			return err
		}
		return writeSessions(a.stdout, c.String("format"), all)
	case "stop":
		session := ""
		if len(args) == 2 {
			if session = args[1]; session == "" {
				return errors.New(`stop: "" is no name of a session`)
			}
		}
		return h.Stop(session)
	case "jobs":
		all, err := h.Jobs(sessionName(c, defaultSession))
		if err != nil {
			return err
		}
		return writeJobs(a.stdout, c.String("format"), all)
	}
	job, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("%s: job %q: must be a number", word, args[1])
	}
	return a.shellJob(c, h, word, job, args[2:])
}

// noHolder is for a container that has no sessions.
func (a *app) noHolder(c *cli.Context, word string) error {
	switch {
	case word == "list":
		return writeSessions(a.stdout, c.String("format"), []holder.SessionInfo{})
	case word == "stop" && c.NArg() == 2:
		return nil
	case word == "stop":
		return fmt.Errorf("there is no session %q", c.Args().Get(2))
	}
	return fmt.Errorf("there is no session %q", sessionName(c, defaultSession))
}

// shellJob does what is about one job.
func (a *app) shellJob(c *cli.Context, h *holder.Client, word string, job int, more []string) error {
	session := sessionName(c, defaultSession)
	switch word {
	case "wait":
		j, err := h.Wait(session, job)
		if err == nil {
			a.status = j.ExitStatus
		}
		return err
	case "signal":
		sig := unix.SIGTERM
		if len(more) > 0 {
			var err error
			if sig, err = parseSignal(more[0]); err != nil {
				return err
			}
		}
		return h.Signal(session, job, sig)
	}
	return a.jobOutput(c, session, job)
}

// jobOutput writes what is kept of a job's outputs, each to its own.
func (a *app) jobOutput(c *cli.Context, session string, job int) error {
	offset := int64(0)
	stream := c.String("stream")
	if s := c.String("offset"); s != "" {
		var err error
		if offset, err = strconv.ParseInt(s, 10, 64); err != nil || offset < 0 {
			return fmt.Errorf("--offset %q: must be a number of bytes", s)
		}
		if stream == "" {
			return errors.New("--offset: of which stream? Add --stream")
		}
	}
	switch stream {
	case "", "stdout", "stderr":
	default:
		return fmt.Errorf("--stream %q: must be stdout or stderr", stream)
	}
	if stream != "stderr" {
		if err := a.copyOutput(c, session, job, shell.Stdout, offset, a.stdout); err != nil {
			return err
		}
	}
	if stream != "stdout" {
		return a.copyOutput(c, session, job, shell.Stderr, offset, a.stderr)
	}
	return nil
}

func (a *app) copyOutput(c *cli.Context, session string, job int, stream shell.Stream, offset int64, w io.Writer) error {
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	for {
		h, err := store.DialShells(c.Args().Get(1), nil)
		if err != nil {
			return err
		}
		if h == nil {
			return a.noHolder(c, "output")
		}
		first, data, err := h.Output(session, job, stream, offset)
		h.Close()
		if err != nil {
			return err
		}
		if first > offset {
			slog.Warn(fmt.Sprintf("output: %d bytes are not kept any more", first-offset))
		}
		if data == "" {
			return nil
		}
		if _, err := io.WriteString(w, data); err != nil {
			return err
		}
		offset = first + int64(len(data))
	}
}

func writeSessions(w io.Writer, format string, all []holder.SessionInfo) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(all)
	}
	t := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprint(t, "SESSION\tPID\tSTATE\tJOBS\tTERMINAL\n")
	for _, s := range all {
		state := "idle"
		if s.Busy {
			state = "busy"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%t\n", s.Name, s.Pid, state, s.Jobs, s.Terminal)
	}
	return t.Flush()
}

func writeJobs(w io.Writer, format string, all []holder.JobInfo) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(all)
	}
	t := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprint(t, "JOB\tSTATE\tSTDOUT\tSTDERR\tCOMMAND\n")
	for _, j := range all {
		state := "running"
		switch {
		case j.Ended && j.Background:
			state = "ended " + strconv.Itoa(j.ExitStatus)
		case j.Ended:
			state = "ended"
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%s\n", j.Number, state, j.Stdout, j.Stderr, strings.ReplaceAll(j.Command, "\n", " "))
	}
	return t.Flush()
}

// saveMemory is for a process that waits most of its life.
func saveMemory() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(6 << 20)
}
