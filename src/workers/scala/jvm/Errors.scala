package nb.worker

/** What a failed cell says: lines are those of the cell, and of the stack only what is the user's. */
object Errors {

  /** Ammonite's own part of a stack begins with one of these. */
  private val Ours = Set("$main", "evaluatorRunPrinter")

  /** What Ammonite puts between a cell's code and itself. */
  private def isWrapper(frame: StackTraceElement): Boolean =
    frame.getClassName.startsWith("ammonite.$sess.cmd") && !frame.getClassName.contains("$Helper") &&
      (frame.getMethodName == "<init>" || frame.getMethodName == "<clinit>")

  def thrown(error: Throwable): Outcome.Failed = {
    val lines = causes(error).zipWithIndex.flatMap { case (cause, at) =>
      val head = if (at == 0) cause.toString else s"Caused by: $cause"
      head +: stack(cause)
    }
    Outcome.Failed(error.getClass.getName, Option(error.getMessage).getOrElse(""), lines)
  }

  def interrupted(error: Throwable): Outcome.Failed = {
    val message = "The cell was interrupted; what earlier cells defined is kept."
    Outcome.Failed("Interrupted", message, message +: Option(error).toSeq.flatMap(stack))
  }

  /** `said` is what the compiler said, each with its place in the cell. */
  def compilation(said: Seq[String], message: String): Outcome.Failed = {
    val all = if (said.isEmpty) Seq(message) else said
    val first = all.head.linesIterator.nextOption().getOrElse("")
    Outcome.Failed("CompilationError", first, all)
  }

  private def causes(error: Throwable): Seq[Throwable] =
    Iterator.iterate(error)(_.getCause).takeWhile(_ != null).take(CausesMax).toSeq

  private def stack(error: Throwable): Seq[String] = {
    val all = error.getStackTrace.toSeq
    val users = all.takeWhile(frame => !Ours(frame.getMethodName)).filterNot(isWrapper)
    val frames = users.map { frame =>
      val name = frame.getClassName.stripPrefix("ammonite.$sess.").replace("$Helper", "")
      val line = if (frame.getLineNumber >= 0) s":${frame.getLineNumber}" else ""
      s"  at $name.${frame.getMethodName}(${Option(frame.getFileName).getOrElse("?")}$line)"
    }
    if (frames.length <= FramesMax) frames
    else (frames.take(FramesMax / 2) :+ s"  … ${frames.length - FramesMax} more …") ++ frames.takeRight(FramesMax / 2)
  }

  /** A longer chain of causes is a circle. */
  private val CausesMax = 16

  /** A longer stack is one of recursion. */
  private val FramesMax = 60
}
