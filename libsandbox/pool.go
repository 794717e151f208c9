package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
)

// PoolOptions are the choices of NewPool; nil is the zero value.
type PoolOptions struct {
	// Mode is how sandboxes are reset; empty is the config's.
	Mode ResetMode
	// Setup, if it is not nil, is called for each new sandbox. The files that it leaves
	// are what the sandbox begins with, also after each reset; its processes are ended.
	Setup func(ctx context.Context, sb *Sandbox) error
	// Parallel is how many sandboxes are made at the same time; 0 is one for each CPU.
	Parallel int
}

// poolSnapshot is what sandboxes with a Setup are reset to.
const poolSnapshot = "pool"

// ErrPoolClosed: the pool has been closed.
var ErrPoolClosed = errors.New("pool is closed")

// Pool keeps sandboxes of one config ready. Its methods may be called from several
// goroutines at once.
type Pool struct {
	config Config
	o      PoolOptions
	ready  chan slot // as many as there are sandboxes
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // what goes on in the background

	mu     sync.Mutex
	closed bool
	made   int                   // for names
	all    map[*Sandbox]struct{} // that exist
	out    map[*Sandbox]struct{} // that Get has handed out
}

// slot is a sandbox that is ready, or why there is none in its place.
type slot struct {
	sb  *Sandbox
	err error
}

// NewPool makes n sandboxes and returns when they are ready. Their ids are the config's ID,
// a dash and a number, or made up where that is empty. After an error there are none. ctx
// is for their making only.
func NewPool(ctx context.Context, c *Config, n int, o *PoolOptions) (*Pool, error) {
	if n <= 0 {
		return nil, fmt.Errorf("pool: %d sandboxes: must be at least one", n)
	}
	if o == nil {
		o = &PoolOptions{}
	}
	p := &Pool{config: *c, o: *o, ready: make(chan slot, n), all: map[*Sandbox]struct{}{}, out: map[*Sandbox]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if p.o.Parallel <= 0 {
		p.o.Parallel = runtime.NumCPU()
	}
	if err := p.fill(ctx, n); err != nil {
		return nil, errors.Join(fmt.Errorf("pool: %w", err), p.Close())
	}
	return p, nil
}

// fill makes the first sandboxes.
func (p *Pool) fill(ctx context.Context, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := make(chan struct{}, p.o.Parallel)
	var all sync.WaitGroup
	for range n {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			if ctx.Err() != nil {
				return
			}
			sb, err := p.make(ctx)
			if err != nil {
				cancel(err)
				return
			}
			p.ready <- slot{sb: sb}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// make makes a sandbox.
func (p *Pool) make(ctx context.Context) (*Sandbox, error) {
	c := p.config
	if c.ID != "" {
		p.mu.Lock()
		c.ID += "-" + strconv.Itoa(p.made)
		p.made++
		p.mu.Unlock()
	}
	sb, err := New(ctx, &c)
	if err != nil {
		return nil, err
	}
	if p.o.Setup != nil {
		if err = p.o.Setup(ctx, sb); err == nil {
			_, err = sb.Snapshot(ctx, poolSnapshot)
		}
		if err == nil { // nobody is to find its processes, or what its commands left in the shell
			err = sb.Reset(ctx, p.renewal())
		}
	}
	if err == nil && !p.keep(sb) {
		err = ErrPoolClosed
	}
	if err != nil {
		return nil, errors.Join(err, discard(sb))
	}
	return sb, nil
}

// keep puts a new sandbox on the books; false where they are closed.
func (p *Pool) keep(sb *Sandbox) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.all[sb] = struct{}{}
	}
	return !p.closed
}

// discard deletes a sandbox, whatever state it is in. That it is gone is no error.
func discard(sb *Sandbox) error {
	err := sb.Delete(context.Background(), &DeleteOptions{Force: true})
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// Get takes a sandbox out of the pool, and waits for one where none is ready. It is the
// caller's until Put. An error is that of ctx, ErrPoolClosed, or what a sandbox could not
// be replaced for; then the pool tries to make another one in its place.
func (p *Pool) Get(ctx context.Context) (*Sandbox, error) {
	select {
	case <-p.ctx.Done():
		return nil, ErrPoolClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case s := <-p.ready:
		if s.err != nil {
			p.background(func() { p.replace(nil) })
			return nil, fmt.Errorf("pool: %w", s.err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			return nil, ErrPoolClosed
		}
		p.out[s.sb] = struct{}{}
		return s.sb, nil
	}
}

// Put gives a sandbox back, which is the pool's from now on. It is reset in the
// background: all that was done in it is gone before somebody gets it. One that cannot be
// reset, or that has been deleted, is replaced. An error is that it has not come from Get,
// or has been given back already.
func (p *Pool) Put(sb *Sandbox) error {
	p.mu.Lock()
	_, ours := p.out[sb]
	delete(p.out, sb)
	closed := p.closed
	p.mu.Unlock()
	switch {
	case closed:
		return nil // Close has deleted it
	case !ours:
		return errors.New("pool: the sandbox was not handed out by it, or has been given back")
	}
	p.background(func() { p.renew(sb) })
	return nil
}

// background runs f unless the pool is closed.
func (p *Pool) background(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.work.Go(f)
	}
}

// renew makes a sandbox ready again.
func (p *Pool) renew(sb *Sandbox) {
	o := p.renewal()
	err := p.forget(sb, o)
	if err == nil {
		err = sb.Reset(p.ctx, o)
	}
	if err != nil && p.ctx.Err() == nil {
		p.replace(sb)
		return
	}
	p.ready <- slot{sb: sb}
}

// renewal is how sandboxes become ready again.
func (p *Pool) renewal() *ResetOptions {
	o := &ResetOptions{Mode: p.o.Mode}
	if p.o.Setup != nil {
		o.To = poolSnapshot
	}
	return o
}

// forget deletes the snapshots that somebody has taken.
func (p *Pool) forget(sb *Sandbox, keep *ResetOptions) error {
	all, err := sb.Snapshots()
	for i := 0; i < len(all) && err == nil; i++ {
		if all[i].Name != keep.To {
			err = sb.DeleteSnapshot(all[i].Name)
		}
	}
	return err
}

// replace makes a sandbox in place of one that is broken, or nil.
func (p *Pool) replace(sb *Sandbox) {
	var err error
	if sb != nil {
		p.mu.Lock()
		delete(p.all, sb)
		p.mu.Unlock()
		err = discard(sb)
	}
	if err == nil {
		sb, err = p.make(p.ctx)
	}
	if err != nil {
		sb = nil
	}
	p.ready <- slot{sb, err}
}

// Close deletes all sandboxes of the pool, also those that are out, and returns when they
// are gone. Closing again does nothing.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for sb := range p.all {
		if err := discard(sb); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(p.all, sb)
	}
	return errors.Join(errs...)
}
