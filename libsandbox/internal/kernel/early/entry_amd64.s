#include "textflag.h"

DATA adl_procs<>+0(SB)/8, $"GOMAXPRO"
DATA adl_procs<>+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL adl_procs<>(SB), RODATA|NOPTR, $16

// adl_entry is the entry point of a command that is linked with -E adl_entry, in place of
// Go's own. It calls Begin, which may end the process. Then it appends GOMAXPROCS=1 to the
// environment, unless that has a GOMAXPROCS, and goes on at Go's. Go's start looks for it
// before anything of the program runs. With one processor it starts two threads where it
// otherwise starts four, which is a sixth of the processor time of a short command; nothing
// else can tell it so early.
//
// The stack is as execve(2) leaves it: argc, argv, 0, envp, 0, auxv. All of it is copied
// below, with one more pointer. Begin is a variable because an assembly
// file can name a Go function only by a wrapper that wants a goroutine; what Go code
// expects of its caller beside is 0 in X15.
TEXT adl_entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ SP, ·stack(SB)
	XORPS X15, X15
	MOVQ ·Begin(SB), DX
	MOVQ (DX), AX
	CALL AX
	MOVQ SP, SI
	MOVQ 0(SI), CX
	LEAQ 16(SI)(CX*8), DI
	MOVQ adl_procs<>+0(SB), BX
	MOVL adl_procs<>+8(SB), R9
	ANDL $0xffffff, R9

env:
	MOVQ  (DI), AX
	TESTQ AX, AX
	JEQ   end
	ADDQ  $8, DI
	CMPQ  (AX), BX            // strings are followed by others, or by the file's name
	JNE   env
	MOVL  8(AX), R10
	ANDL  $0xffffff, R10
	CMPL  R10, R9
	JNE   env
	JMP   _rt0_amd64_linux(SB)

end:
	MOVQ DI, R8               // where the new pointer goes
	ADDQ $8, DI

aux:
	MOVQ  (DI), AX
	ADDQ  $16, DI
	TESTQ AX, AX
	JNE   aux
	MOVQ  SI, DX
	SUBQ  DI, DX
	LEAQ  -8(SI)(DX*1), DX
	ANDQ  $~15, DX
	MOVQ  DX, R11

head:
	MOVQ (SI), AX
	MOVQ AX, (DX)
	ADDQ $8, SI
	ADDQ $8, DX
	CMPQ SI, R8
	JNE  head
	LEAQ adl_procs<>(SB), AX
	MOVQ AX, (DX)
	ADDQ $8, DX

tail:
	MOVQ (SI), AX
	MOVQ AX, (DX)
	ADDQ $8, SI
	ADDQ $8, DX
	CMPQ SI, DI
	JNE  tail
	MOVQ R11, SP
	JMP  _rt0_amd64_linux(SB)
