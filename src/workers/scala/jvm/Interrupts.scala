package nb.worker

import scala.tools.asm.{ClassReader, ClassVisitor, ClassWriter, Label, MethodVisitor, Opcodes}
import scala.util.control.ControlThrowable

/** Thrown into a cell that does not end otherwise. */
final class Interrupted extends ControlThrowable("the cell was interrupted")

/** Ends a cell that runs: first as Java does it, which wakes whoever waits; then, if it goes on, by a throw into it.
  *
  * Where the JVM can throw into another thread (before 20) it does. Elsewhere the cell's own code looks (see [[Looks]]), and only
  * a loop in somebody else's code goes on.
  */
final class Interrupts {
  private var cell: Option[Thread] = None

  /** Runs a cell in this thread. Afterwards nothing is thrown into it any more. */
  def running[T](body: => T): T = {
    synchronized {
      Interrupts.asked = false
      cell = Some(Thread.currentThread())
    }
    try body
    finally end()
  }

  /** A throw that comes here of all places does not get out. */
  @annotation.tailrec
  private def end(): Unit = {
    val ended =
      try { synchronized { cell = None }; true }
      catch { case _: Throwable => false }
    if (!ended) end()
    else Thread.interrupted()
  }

  /** Whether somebody wants the cell that runs, or ran last, to end. */
  def wereAsked: Boolean = Interrupts.asked

  def interrupt(): Unit = {
    val asked = synchronized {
      cell.foreach { thread =>
        Interrupts.asked = true
        thread.interrupt()
      }
      cell
    }
    for (thread <- asked) Threads.daemon("nb-interrupt") {
      Thread.sleep(Interrupts.PatienceMs)
      synchronized { if (cell.contains(thread) && Interrupts.asked) Interrupts.stop.foreach(_.invoke(thread)) }
    }
  }
}

object Interrupts {

  /** How long a cell may take to end when asked as Java does it, in milliseconds. */
  val PatienceMs: Long = 1000

  @volatile private[worker] var asked = false

  /** `Thread.stop`, where it does what it says and `nb.stop` does not say `never`. */
  private val stop: Option[java.lang.reflect.Method] =
    if (Runtime.version().feature() < 20 && System.getProperty("nb.stop") != "never")
      Some(classOf[Thread].getMethod("stop"))
    else None

  /** Whether cells have to look themselves. */
  val cellsLook: Boolean = stop.isEmpty

  /** What cells call. */
  def look(): Unit = if (asked && Thread.currentThread().getName == Worker.CellThread) throw new Interrupted
}

/** Makes the code of a cell look whether it is to end: where a method begins, and where a jump goes back. */
object Looks {
  def into(bytes: Array[Byte]): Array[Byte] = {
    val reader = new ClassReader(bytes)
    val writer = new ClassWriter(0)
    reader.accept(new OfClass(writer), 0)
    writer.toByteArray
  }

  private final class OfClass(next: ClassVisitor) extends ClassVisitor(Opcodes.ASM9, next) {
    override def visitMethod(access: Int, name: String, about: String, generic: String, throws: Array[String]) =
      new OfMethod(super.visitMethod(access, name, about, generic, throws), name != "<init>" && name != "<clinit>")
  }

  private final class OfMethod(next: MethodVisitor, looksFirst: Boolean) extends MethodVisitor(Opcodes.ASM9, next) {
    private val passed = new java.util.HashSet[Label]

    override def visitCode(): Unit = {
      super.visitCode()
      if (looksFirst) look()
    }

    override def visitLabel(label: Label): Unit = {
      passed.add(label)
      super.visitLabel(label)
    }

    override def visitJumpInsn(opcode: Int, to: Label): Unit = {
      if (passed.contains(to)) look()
      super.visitJumpInsn(opcode, to)
    }

    private def look(): Unit =
      super.visitMethodInsn(Opcodes.INVOKESTATIC, "nb/worker/Interrupts", "look", "()V", false)
  }
}
