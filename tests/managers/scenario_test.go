package managers

import "testing"

// scenario is one thing that users do with a manager.
type scenario struct {
	name  string
	short bool // part of the short selection
	run   func(client)
}

// runScenarios runs each scenario as a test, and then checks that it left nothing.
func runScenarios(t *testing.T, list []scenario, connect func(*testing.T) client, tidy func(client)) {
	for _, s := range list {
		t.Run(s.name, func(t *testing.T) {
			if testing.Short() && !s.short {
				t.Skip("not part of the short selection")
			}
			c := connect(t)
			before := look()
			t.Cleanup(func() {
				tidy(c)
				before.noLeaks(t)
			})
			s.run(c)
		})
	}
}
