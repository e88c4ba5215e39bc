// Command ledger writes and reads a replica whose content depends on a seed
// alone, so that two processors can be compared.
//
//	ledger write DIR SEED RECORDS    orders that many clinical records and prints the tree head
//	ledger read DIR                  verifies every entry and prints the head of the tree it built from them
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var head record.TreeHead
	var err error
	switch {
	case len(args) == 4 && args[0] == "write":
		head, err = write(args[1], args[2], args[3])
	case len(args) == 2 && args[0] == "read":
		head, err = read(args[1])
	default:
		return errors.New("want: write DIR SEED RECORDS, or read DIR")
	}
	if err != nil {
		return err
	}
	fmt.Printf("size %d\nroot %x\n", head.Size, head.Root)
	return nil
}

// write orders batches of full size, each of which must be taken whole.
func write(dir, seed, records string) (record.TreeHead, error) {
	from, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return record.TreeHead{}, fmt.Errorf("reading the seed: %w", err)
	}
	left, err := strconv.Atoi(records)
	if err != nil {
		return record.TreeHead{}, fmt.Errorf("reading the number of records: %w", err)
	}
	s, err := store.Open(dir, store.NewOptions())
	if err != nil {
		return record.TreeHead{}, err
	}
	l, item := newLog(from)
	for index := uint64(1); ; index++ {
		if err := order(s, index, item); err != nil {
			return record.TreeHead{}, errors.Join(err, s.Close())
		}
		if left == 0 {
			break
		}
		n := min(left, record.BatchRecordsMax)
		item, left = l.next(n), left-n
	}
	head := s.Head()
	return head, errors.Join(s.Barrier(context.Background()), s.Close())
}

func order(s *store.Store, index uint64, item record.Batch) error {
	outcomes, err := s.Order(index, 1, item.Encode())
	if err != nil {
		return fmt.Errorf("ordering item %d: %w", index, err)
	}
	for i, out := range outcomes {
		if out.Verdict != record.Ordered {
			return fmt.Errorf("ordering item %d: record %d of %d: %v", index, i, len(outcomes), out.Verdict)
		}
	}
	return nil
}

// read trusts nothing but the bytes: it checks each body and signature and
// builds the tree again.
func read(dir string) (record.TreeHead, error) {
	s, err := store.Open(dir, store.NewOptions())
	if err != nil {
		return record.TreeHead{}, err
	}
	head, err := rebuild(s)
	if err == nil && head != s.Head() {
		err = fmt.Errorf("entries give size %d, root %x; the store says %d, %x", head.Size, head.Root, s.Head().Size, s.Head().Root)
	}
	return head, errors.Join(err, s.Close())
}

func rebuild(s *store.Store) (record.TreeHead, error) {
	tree, err := record.NewRange(0, nil)
	if err != nil {
		return record.TreeHead{}, err
	}
	for seq := range s.Head().Size {
		e, err := s.Entry(seq)
		if err != nil {
			return record.TreeHead{}, fmt.Errorf("reading entry %d: %w", seq, err)
		}
		if err := check(s, &e.Record); err != nil {
			return record.TreeHead{}, fmt.Errorf("verifying entry %d: %w", seq, err)
		}
		tree.Append(record.LeafHash(e.EncodeLeaf()))
	}
	return tree.Head(), nil
}

func check(s *store.Store, r *record.Record) error {
	if r.Body == nil {
		return errors.New("no body")
	}
	if err := r.VerifyBody(); err != nil {
		return err
	}
	epoch, ok, err := s.State().Epoch(r.Position().Epoch)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("unknown epoch")
	}
	return r.VerifySignature(epoch.Device)
}
