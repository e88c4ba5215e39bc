package e2e_test

import (
	"sync"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// brokenProgram builds the program with everything that the tests break in it, each
// of it idle until its environment variable is set: a clock that a file sets, a hub's
// ledger that lies on demand, a store that says "saved" too early. Its journal begins
// a segment every few hundred records and its hubs take snapshots all the time.
// Nothing of it is in the program that ships.
var brokenProgram = sync.OnceValues(func() (string, error) {
	return rig.Overlaid("broken", map[string]string{
		"node/clock.go":      "testdata/broken/clock.go.txt",
		"node/hostile.go":    "testdata/broken/hostile.go.txt",
		"store/forgetful.go": "testdata/broken/forgetful.go.txt",
	}, map[string][2]string{
		"node/options.go":    {`Now: time\.Now,`, `Now: brokenClock,`},
		"node/links.go":      {`NewLinks\(l\.host, (replica\{[^}]*\}), `, `NewLinks(l.host, hostileReplica($1), `},
		"node/ordering.go":   {`Pending: (waiting\{n\.store\}),`, `Pending: hostilePending($1),`},
		"node/receipts.go":   {`now\.Add\(n\.o\.PromiseAfter\)`, `now.Add(hostilePromise(n.o.PromiseAfter))`},
		"store/commit.go":    {`t\.accept\(true\)\n(\tif err != nil \{\n\t\treturn err\n\t\}\n)\t<-l\.done\n`, "t.accept(!forgetful())\n$1\t<-l.said()\n"},
		"store/options.go":   {`SegmentBytes: 16 << 20, ChunkBytes: 1 << 20, (.*) LazyMax: 200 \* time\.Millisecond`, `SegmentBytes: 256 << 10, ChunkBytes: 64 << 10, $1 LazyMax: lazyMax()`},
		"raftlog/options.go": {`TrailingItems: 1024, SnapshotThreshold: 512, SnapshotInterval: 5 \* time\.Minute`, `TrailingItems: 64, SnapshotThreshold: 16, SnapshotInterval: 200 * time.Millisecond`},
	})
})

// breakable lets a stopped box run the broken program, with these variables.
func breakable(t testing.TB, b *rig.Box, env ...string) {
	t.Helper()
	bin, err := brokenProgram()
	if err != nil {
		t.Fatal(err)
	}
	b.Program, b.Env = bin, env
}
