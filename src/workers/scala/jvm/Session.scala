package nb.worker

import ammonite.compiler.{CodeClassWrapper, CompilerBuilder, CompilerLifecycleManager, Parsers}
import ammonite.compiler.iface.Compiler.Output
import ammonite.interp.Interpreter
import ammonite.repl.api.{FrontEnd, FrontEndBridge, History, ReplLoad}
import ammonite.repl.{FrontEndAPIImpl, Repl, ReplApiImpl, ReplBridge, SessionApiImpl}
import ammonite.runtime.{Evaluator, Frame, Storage}
import ammonite.util.Util.{ClassFiles, CodeSource, normalizeNewlines}
import ammonite.util.{Bind, Colors, CompilationError, Evaluated, Imports, Name, Printer, Ref, Res}

import java.io.{ByteArrayOutputStream, PrintStream}
import java.nio.file.{Path, Paths}
import scala.collection.mutable

/** What became of a cell. */
sealed trait Outcome
object Outcome {
  final case object Ok extends Outcome

  /** What is shown as its result; may be empty. */
  final case class Shows(text: String) extends Outcome
  final case class Failed(name: String, value: String, traceback: Seq[String]) extends Outcome
  final case class Exits(code: Int) extends Outcome
}

/** The definitions of all cells so far: Ammonite, driven as its own REPL does it, without a terminal. */
final class Session(flush: () => Unit) {
  private val results = new ByteArrayOutputStream
  private val resultStream = new PrintStream(results, true, "UTF-8")
  private val complaints = mutable.Buffer.empty[String]
  private val printer = Printer(
    System.out,
    System.err,
    resultStream,
    System.err.println,
    complaints += _,
    System.err.println
  )
  // Results are read by programs, and compared: who wants colours sets `repl.colors`.
  private val colors: Ref[Colors] = Ref(Colors.BlackWhite)
  private val frames = Ref(List(Frame.createInitial(getClass.getClassLoader)))
  private val saved = new SessionApiImpl(frames)
  private var lastException: Throwable = _
  private var count = 0
  private val taken = mutable.Set.empty[String]

  /** Held for whoever reads them. */
  private var lent = Seq.empty[(String, _root_.nb.Frame)]

  val interp: Interpreter = new Interpreter(
    Session.Builder,
    () => Parsers,
    getFrame = () => frames().head,
    createFrame = () => {
      val frame = saved.childFrame(frames().head)
      frames() = frame :: frames()
      frame
    },
    // Not an object: what its initialiser runs deadlocks with threads that a cell starts.
    replCodeWrapper = CodeClassWrapper,
    scriptCodeWrapper = CodeClassWrapper,
    parameters = Interpreter.Parameters(
      printer = printer,
      storage = Storage.InMemory(),
      colors = colors,
      verboseOutput = false,
      warnings = true
    )
  ) {
    override val eval: Evaluator = new Looking(Evaluator(frames().head))
  }

  saved.save()
  interp.createFrame()
  for ((failed, _) <- interp.initializePredef(Nil, Nil, Bridges.all, Session.Predef))
    throw new IllegalStateException(s"Ammonite does not start: $failed")
  interp.compilerManager.init()
  Downloads.tellOf(interp)

  /** What completion and inspection have to see. */
  def imports: Imports = Imports((interp.predefImports ++ frames().head.imports).value.filter(_.fromName.raw != "package"))

  /** Runs a cell in this thread. Of one that is not counted, names of results are those of the count that it would have. */
  def run(code: String, countNow: Int, silent: Boolean, interrupts: Interrupts): Outcome = {
    results.reset()
    complaints.clear()
    lent = Nil
    count = countNow
    val name = free(s"cmd$countNow")
    val result = interrupts.running(process(Downloads.asImports(code), name, silent))
    flush()
    try Repl.handleOutput(interp, result)
    catch { case scala.util.control.NonFatal(error) => System.err.println(error) }
    outcome(result, interrupts.wereAsked)
  }

  /** Compiles and runs something of no consequence. */
  def wake(): Unit = {
    val statements = Seq("val array = Seq.tabulate(10)(_ * 2).toArray.max")
    processStatements(statements, Name("wake"), silent = true)
  }

  /** Those of these names that are frames of cells, as they are now; held until more code runs. */
  def lend(names: Seq[String]): Seq[(String, _root_.nb.Frame)] = {
    lent = names.flatMap(name => Defined.as(classOf[_root_.nb.Frame], name, frames().head).map(name -> _))
    lent
  }

  /** A class has a name of its own, also of a cell that is not counted. */
  private def free(name: String): String = {
    val names = Iterator(name) ++ Iterator.from(1).map(n => s"${name}_$n")
    val first = names.find(!taken(_)).get
    taken += first
    first
  }

  private def process(code: String, name: String, silent: Boolean): Res[Evaluated] =
    try
      Parsers.split(normalizeNewlines(code), ignoreIncomplete = false, s"$name.sc") match {
        case Some(Right(Nil)) | None => Res.Skip
        case Some(Left(error))       => Res.Failure(error)
        case Some(Right(statements)) => processStatements(statements, Name(name), silent)
      }
    catch {
      case thrown: Throwable => Res.Exception(thrown, "")
    }

  /** `Interpreter.processLine`, which takes one number for the class and for the results. */
  private def processStatements(statements: Seq[String], name: Name, silent: Boolean): Res[Evaluated] = {
    val source = CodeSource(name, Seq(), Seq(Name("ammonite"), Name("$sess")), Some(os.pwd / "(console)"))
    val (hooked, trees) = Parsers.parseImportHooks(source, statements)
    for {
      hooks <- interp.resolveImportHooks(trees, hooked, source, CodeClassWrapper.wrapperPath)
      code <- interp.compilerManager.preprocess(s"${name.raw}.sc").transform(
        hooks.stmts,
        if (silent) Session.Nameless else count.toString,
        "",
        source,
        name,
        interp.predefImports ++ interp.frameImports ++ hooks.imports,
        prints => s"ammonite.repl.ReplBridge.value.Internal.combinePrints($prints)",
        extraCode = "",
        skipEmpty = true,
        markScript = false,
        codeWrapper = CodeClassWrapper
      )
      (out, _) <- interp.evaluateLine(code, s"${name.raw}.sc", name, silent, () => ())
    } yield out.copy(imports = out.imports ++ hooks.imports)
  }

  private def outcome(result: Res[Evaluated], wereAsked: Boolean): Outcome = result match {
    case Res.Success(_) =>
      results.toString("UTF-8") match {
        case "" => Outcome.Ok
        case text => Outcome.Shows(text)
      }
    case Res.Skip => Outcome.Ok
    case Res.Exit(code: Int) => Outcome.Exits(code)
    case Res.Exit(_) => Outcome.Exits(0)
    case Res.Exception(thrown, _) =>
      lastException = thrown
      if (wereAsked) Errors.interrupted(thrown) else Errors.thrown(thrown)
    case Res.Failure(_) if wereAsked => Errors.interrupted(null)
    case Res.Failure(message) => Errors.compilation(complaints.toSeq, message)
  }

  /** Puts the looks of cells that have to look themselves into their code. */
  private final class Looking(usual: Evaluator) extends Evaluator {
    override def loadClass(name: String, files: ClassFiles): Res[Class[_]] = usual.loadClass(name, files)
    override def evalMain(cls: Class[_], loader: ClassLoader): Any = usual.evalMain(cls, loader)
    override def processLine(
        files: ClassFiles,
        imports: Imports,
        used: Seq[String],
        printer: Printer,
        name: Name,
        path: Seq[Name],
        silent: Boolean,
        loader: ClassLoader
    ): Res[Evaluated] = {
      val looking =
        if (!Interrupts.cellsLook) files
        else files.map { case (file, bytes) => (file, if (file.endsWith(".class")) Looks.into(bytes) else bytes) }
      usual.processLine(looking, imports, used, printer, name, path, silent, loader)
    }
    override def processScriptBlock(
        cls: Class[_],
        imports: Imports,
        used: Seq[String],
        name: Name,
        path: Seq[Name],
        pkg: Seq[Name],
        loader: ClassLoader
    ): Res[Evaluated] = usual.processScriptBlock(cls, imports, used, name, path, pkg, loader)
  }

  /** What `repl` is in a cell. */
  private object Bridges {
    def all: Seq[(String, String, AnyRef)] =
      Seq(("ammonite.repl.ReplBridge", "repl", repl), ("ammonite.repl.api.FrontEndBridge", "frontEnd", frontEnds))

    private val frontEnds = new FrontEndAPIImpl { def parser = Parsers }

    private val repl = new ReplApiImpl {
      def replArgs0: IndexedSeq[Bind[_]] = Vector.empty
      def printer = Session.this.printer
      val colors = Session.this.colors
      def sess = saved
      val prompt = Ref("")
      val frontEnd = Ref[FrontEnd](null)
      def lastException = Session.this.lastException
      def fullHistory = new History(Vector())
      def history = new History(Vector())
      def newCompiler() = interp.compilerManager.init(force = true)
      def fullImports = interp.predefImports ++ imports
      def imports = frames().head.imports
      def usedEarlierDefinitions = frames().head.usedEarlierDefinitions
      def width = Session.Columns
      def height = Session.Rows
      object load extends ReplLoad with (String => Unit) {
        def apply(line: String): Unit =
          interp.processExec(line, count, () => ()) match {
            case Res.Failure(message)     => throw new CompilationError(message)
            case Res.Exception(thrown, _) => throw thrown
            case _                        =>
          }
        def exec(file: os.Path): Unit = apply(normalizeNewlines(os.read(file)))
      }
      def _compilerManager = interp.compilerManager
    }
  }
}

object Session {

  /** The compiler reads the JDK's own classes from a file, which takes seconds to write and is kept beside us. Ammonite keeps none below
    * the folder for temporary files, by the beginning of the path: ours stays, wherever it is.
    */
  private object Builder extends CompilerBuilder() {
    private val kept = Option(System.getProperty("nb.cache")).map(folder => Paths.get(s"/./$folder"))

    override def newManager(
        cache: Option[Path],
        frame: => ammonite.util.Frame,
        completer: => Option[String => (Int, Seq[String])],
        allowed: Set[Seq[String]],
        loader: ClassLoader,
        settings: Seq[String]
    ): CompilerLifecycleManager = super.newManager(kept, frame, completer, allowed, loader, settings)
  }

  /** Behind `res`, in place of a count: Ammonite shows no name with a `$`, and no later cell knows it. So what runs unseen takes no name
    * from the results of a cell.
    */
  private val Nameless = "$"

  /** How wide a result is laid out. */
  private val Columns = 100

  /** Twice the lines that a result may have. */
  private val Rows = 100

  /** What every cell has without asking for it: that of Ammonite's own REPL. */
  private val Predef: Imports = ammonite.main.Defaults.replImports ++ Interpreter.predefImports
}
