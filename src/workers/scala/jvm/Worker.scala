package nb.worker

import java.util.concurrent.{LinkedBlockingQueue, TimeUnit}
import scala.util.control.NonFatal

/** The JVM side of nb's Scala kernel: does what comes by the channel, and ends when nb is gone.
  *
  * Cells run in one thread, one after the other; the main thread hears interrupts and answers to questions meanwhile; completion
  * and inspection have threads of their own, which are left to themselves when they hang.
  */
object Worker {
  val CellThread = "cells"

  /** The compiler recurses where a cell has long expressions. */
  private val CellStackBytes = 16L * 1024 * 1024

  /** A cell that waits for us comes within this time, in milliseconds. */
  private val FirstWithinMs = 100L

  /** How long the JVM takes to end at most, in milliseconds. */
  private val EndsWithinMs = 2000L

  private val channel = new Channel
  private val printed = Printed.instead(channel)
  private val input = new Asked(channel, flush)
  private val interrupts = new Interrupts
  private val cells = new LinkedBlockingQueue[ujson.Value]
  @volatile private var session: Session = _

  /** Shows it after what was printed before. */
  private[nb] def display(data: Seq[(String, String)]): Unit = {
    flush()
    val shown = ujson.Obj.from(data.map { case (mime, text) => mime -> ujson.Str(text) })
    channel.send(ujson.Obj("op" -> "display", "data" -> shown))
  }

  /** Those of these names that are frames of cells. */
  private[nb] def lend(names: Seq[String]): Seq[(String, _root_.nb.Frame)] = session.lend(names)

  private def flush(): Unit = {
    System.out.flush()
    System.err.flush()
    printed.foreach(_.say())
  }

  def main(arguments: Array[String]): Unit = {
    if (arguments.contains("--warm-up")) return warmUp()
    System.setIn(input)
    Threads.daemon(CellThread, CellStackBytes)(runCells())
    hear()
    // Hooks of the user's libraries may run, for a while: nobody would hear of whatever still runs.
    Threads.daemon("nb-end") {
      Thread.sleep(EndsWithinMs)
      Runtime.getRuntime.halt(0)
    }
    sys.exit(0)
  }

  /** What every kernel does first, so that a class-data-sharing archive has it. */
  private def warmUp(): Unit = {
    val thread = Threads.daemon(CellThread) {
      val session = new Session(() => ())
      session.run("val warm = Seq(1, 2).map(_ + 1)\nwarm.sum", 1, silent = false, interrupts)
      session.run("sys.error(\"\")", 2, silent = false, interrupts)
      new Hints(session).complete("warm.siz", 8)
      Hints.isComplete("1 +")
    }
    thread.join()
  }

  private def hear(): Unit = {
    var line = channel.receive()
    while (line.isDefined) {
      val asked = line.get
      asked("op").str match {
        case "execute"   => cells.put(asked)
        case "interrupt" => interrupts.interrupt()
        case "input"     => input.answer(asked.obj.get("value").map(_.str).toRight(asked("refused").str))
        case "complete"  => hint(asked)(complete)
        case "inspect"   => hint(asked)(inspect)
        case "complete?" => hint(asked)(asked => ujson.Obj("status" -> Hints.isComplete(asked("code").str)))
        case _           =>
      }
      line = channel.receive()
    }
  }

  private def runCells(): Unit = {
    session = new Session(flush)
    channel.send(ujson.Obj("op" -> "ready"))
    // While nobody waits, so that the first cell finds the compiler awake.
    val first = cells.poll(FirstWithinMs, TimeUnit.MILLISECONDS)
    if (first == null) session.wake() else runOne(first)
    while (true) runOne(cells.take())
  }

  private def runOne(asked: ujson.Value): Unit =
    try runCell(asked)
    catch {
      // It came too late for its cell.
      case _: Interrupted | _: InterruptedException | _: ThreadDeath =>
    }

  private def runCell(asked: ujson.Value): Unit = {
    val outcome = session.run(asked("code").str, asked("count").num.toInt, asked("silent").bool, interrupts)
    flush()
    val said = outcome match {
      case Outcome.Ok          => ujson.Obj("status" -> "ok")
      case Outcome.Shows(text) => ujson.Obj("status" -> "ok", "text" -> text)
      case Outcome.Exits(code) => sys.exit(code)
      case Outcome.Failed(name, value, traceback) =>
        ujson.Obj("status" -> "error", "ename" -> name, "evalue" -> value, "traceback" -> traceback)
    }
    said("op") = "done"
    channel.send(said)
  }

  /** Answers in a thread of its own; what fails knows nothing. */
  private def hint(asked: ujson.Value)(answer: ujson.Value => ujson.Obj): Unit = Threads.daemon("hint") {
    val said =
      try answer(asked)
      catch { case NonFatal(_) | _: LinkageError | _: StackOverflowError => ujson.Obj() }
    said("op") = "hint"
    said("id") = asked("id")
    channel.send(said)
  }

  private def complete(asked: ujson.Value): ujson.Obj = {
    val (code, cursor) = place(asked)
    val (from, names) = new Hints(session).complete(code, cursor)
    ujson.Obj("matches" -> names, "from" -> code.codePointCount(0, from))
  }

  private def inspect(asked: ujson.Value): ujson.Obj = {
    val (code, cursor) = place(asked)
    new Hints(session).inspect(code, cursor).fold(ujson.Obj())(text => ujson.Obj("text" -> text))
  }

  /** Jupyter counts code points, Scala UTF-16 units. */
  private def place(asked: ujson.Value): (String, Int) = {
    val code = asked("code").str
    val points = math.max(0, math.min(asked("cursor").num.toInt, code.codePointCount(0, code.length)))
    (code, code.offsetByCodePoints(0, points))
  }
}
