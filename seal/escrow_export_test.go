package seal

// ForgedShare has the letters of one share under the name of another.
func ForgedShare(letters, name EscrowShare) EscrowShare {
	name.parts = letters.parts
	return name
}
