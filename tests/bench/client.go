package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// client is the bench's end of one worker.
type client struct {
	cmd      *exec.Cmd
	requests *os.File
	replies  *os.File
	in       *json.Decoder
	out      *json.Encoder
	stderr   bytes.Buffer
	// patience bounds the worker's answer: a command's timeout, its repetition
	// for the message, and the checks, which take some seconds at most.
	patience time.Duration
}

// startWorker starts this program as a worker in a mount namespace of its own
// (Go makes all mounts in it private) and waits until it is ready.
func startWorker(s setup) (*client, error) {
	theirRequests, requests, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirRequests.Close()
	replies, theirReplies, err := os.Pipe()
	if err != nil {
		requests.Close()
		return nil, err
	}
	defer theirReplies.Close()

	c := &client{requests: requests, replies: replies, patience: 2*s.Timeout + 20*time.Second}
	c.in, c.out = json.NewDecoder(replies), json.NewEncoder(requests)
	c.cmd = exec.Command("/proc/self/exe", workerArg)
	c.cmd.Stderr = &c.stderr
	c.cmd.ExtraFiles = []*os.File{theirRequests, theirReplies} // requestFD, replyFD
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS}
	if err := c.cmd.Start(); err != nil {
		requests.Close()
		replies.Close()
		return nil, fmt.Errorf("worker: %w", err)
	}
	if _, err := c.ask(s); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// ask sends a setup or a request and waits for the reply.
func (c *client) ask(question any) (reply, error) {
	var r reply
	if err := c.out.Encode(question); err != nil {
		return r, fmt.Errorf("worker: %w", err)
	}
	if err := c.replies.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return r, err
	}
	if err := c.in.Decode(&r); err != nil {
		return r, fmt.Errorf("worker: %w", err)
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

// close tells the worker to clean up and waits for its end. A worker that does
// not end is killed: its children become the bench's, see adoptOrphans.
func (c *client) close() error {
	c.requests.Close()
	defer c.replies.Close()
	hang := time.AfterFunc(c.patience, func() { _ = c.cmd.Process.Kill() })
	defer hang.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("worker: %w: %s", err, bytes.TrimSpace(c.stderr.Bytes()))
	}
	return nil
}
