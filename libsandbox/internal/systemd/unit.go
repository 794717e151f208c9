package systemd

import (
	"errors"
	"fmt"
)

// replace is the mode of jobs: one that is queued for the unit gives way.
const replace = "replace"

// Start makes and starts a transient unit and returns when it runs. One of the same
// name that has failed and was not cleaned up gives way.
func (c *Conn) Start(unit string, properties []Property) error {
	start := func() (message, error) {
		return c.manager("StartTransientUnit", arg{"s", unit}, arg{"s", replace}, arg{"a(sv)", properties}, arg{"a(sa(sv))", []Property{}})
	}
	m, err := start()
	if is(err, "UnitExists") && c.Reset(unit) == nil {
		m, err = start()
	}
	if err != nil {
		return fmt.Errorf("start unit %s: %w", unit, err)
	}
	result, err := c.wait(m)
	if err == nil && result != "done" {
		err = errors.New("its job ended as " + result)
	}
	if err != nil {
		_ = c.Reset(unit) // what failed must not be in the way of the next
		return fmt.Errorf("start unit %s: %w", unit, err)
	}
	return nil
}

// Stop stops a unit, kills what is left in it, and returns when it is gone. A unit that
// is not there is no error.
func (c *Conn) Stop(unit string) error {
	m, err := c.manager("StopUnit", arg{"s", unit}, arg{"s", replace})
	if is(err, "NoSuchUnit") {
		return nil
	}
	if err == nil {
		// Whatever the result, the unit is stopped or there is nothing more to do.
		_, err = c.wait(m)
	}
	if err != nil {
		return fmt.Errorf("stop unit %s: %w", unit, err)
	}
	return c.Reset(unit)
}

// Reset lets go of a unit that has failed. One that has not, or is not there, is no
// error.
func (c *Conn) Reset(unit string) error {
	_, err := c.manager("ResetFailedUnit", arg{"s", unit})
	if err != nil && !is(err, "NoSuchUnit") {
		return fmt.Errorf("reset unit %s: %w", unit, err)
	}
	return nil
}

// Set changes properties of a unit until the next boot: all of them, or on an error
// none.
func (c *Conn) Set(unit string, properties []Property) error {
	if len(properties) == 0 {
		return nil
	}
	_, err := c.manager("SetUnitProperties", arg{"s", unit}, arg{"b", true}, arg{"a(sv)", properties})
	if err != nil {
		return fmt.Errorf("change unit %s: %w", unit, err)
	}
	return nil
}
