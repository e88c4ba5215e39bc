package seal

import (
	"runtime/debug"
	"sync"

	"golang.org/x/crypto/argon2"
)

// stretching is held while a secret takes its memory: two at once, or the memory of the
// one before beside that of the next, are more than the smallest box has.
var stretching sync.Mutex

// freedFrom is from how many KiB on memory is given back at once. Less waits for the
// collector as everything else does.
const freedFrom = 16 << 10

// stretch makes what people can remember costly to try (Argon2id, RFC 9106). Calls wait for
// one another, and leave no memory behind.
func (p PINParams) stretch(secret, salt []byte) Key {
	stretching.Lock()
	defer stretching.Unlock()
	k := Key(argon2.IDKey(secret, salt, p.Passes, p.MemoryKiB, p.Threads, keyBytes))
	if p.MemoryKiB >= freedFrom {
		debug.FreeOSMemory()
	}
	return k
}
